// UNet2DModel of the Python package diffusers: its modules' names, shapes and arithmetic.
// Activations are [N,C,H,W]; dropout is left out, since a teacher only evaluates.
#pragma once

#include <ATen/ATen.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>

#include <cmath>

#include "diffusers_config.hpp"
#include "dkdm/denoiser.hpp"
#include "dkdm/nn.hpp"

namespace dkdm::diffusers {

using at::Tensor;
namespace tnn = torch::nn;

struct Group : tnn::Module {};  // a name only

inline tnn::Conv2d conv(std::int64_t in, std::int64_t out, std::int64_t kernel,
                        std::int64_t stride = 1, std::int64_t padding = 1) {
  return tnn::Conv2d(tnn::Conv2dOptions(in, out, kernel).stride(stride).padding(padding));
}

inline std::shared_ptr<nn::GroupNorm> norm(std::int64_t groups, std::int64_t channels, double eps) {
  return std::make_shared<nn::GroupNorm>(groups, channels, eps);
}

// ResnetBlock2D. `factor` divides its result.
struct Resnet final : tnn::Module {
  Resnet(std::int64_t in, std::int64_t out, const UnetConfig& config, double factor)
      : scale_shift_(config.scale_shift), factor_(factor) {
    norm1 = register_module("norm1", norm(config.groups, in, config.norm_eps));
    conv1 = register_module("conv1", conv(in, out, 3));
    time = register_module("time_emb_proj",
                           tnn::Linear(config.time_width, scale_shift_ ? 2 * out : out));
    norm2 = register_module("norm2", norm(config.groups, out, config.norm_eps));
    conv2 = register_module("conv2", conv(out, out, 3));
    if (in != out) shortcut = register_module("conv_shortcut", conv(in, out, 1, 1, 0));
  }

  // emb [N,E] comes with its SiLU already applied.
  Tensor forward(const Tensor& x, const Tensor& emb) {
    Tensor h = conv1->forward(at::silu(norm1->forward(x)));
    const Tensor projected = time->forward(emb).unsqueeze(2).unsqueeze(3);
    if (scale_shift_) {
      const auto parts = projected.chunk(2, 1);
      h = norm2->forward(h) * (parts[0] + 1) + parts[1];
    } else {
      h = norm2->forward(h + projected);
    }
    h = conv2->forward(at::silu(h));
    return ((shortcut ? shortcut->forward(x) : x) + h) / factor_;
  }

 private:
  bool scale_shift_;
  double factor_;
  std::shared_ptr<nn::GroupNorm> norm1, norm2;
  tnn::Conv2d conv1{nullptr}, conv2{nullptr}, shortcut{nullptr};
  tnn::Linear time{nullptr};
};

// Attention over the positions of an image. `groups` 0 = not normalised before.
struct Attention final : tnn::Module {
  Attention(std::int64_t channels, const UnetConfig& config, std::int64_t groups, double factor)
      : heads_(config.head_channels > 0 ? channels / config.head_channels : 1), factor_(factor) {
    if (groups > 0) norm_ = register_module("group_norm", norm(groups, channels, config.norm_eps));
    q = register_module("to_q", tnn::Linear(channels, channels));
    k = register_module("to_k", tnn::Linear(channels, channels));
    v = register_module("to_v", tnn::Linear(channels, channels));
    out = register_module("to_out", std::make_shared<Group>())
              ->register_module("0", tnn::Linear(channels, channels));
  }

  Tensor forward(const Tensor& x) {
    const auto n = x.size(0), c = x.size(1), height = x.size(2), width = x.size(3);
    const Tensor normed = norm_ ? norm_->forward(x) : x;
    const Tensor tokens = normed.permute({0, 2, 3, 1}).reshape({n, height * width, c});
    const Tensor qkv = at::cat({q->forward(tokens), k->forward(tokens), v->forward(tokens)}, 2);
    const Tensor mixed = out->forward(nn::self_attention(qkv, heads_));
    return (mixed.view({n, height, width, c}).permute({0, 3, 1, 2}) + x) / factor_;
  }

 private:
  std::int64_t heads_;
  double factor_;
  std::shared_ptr<nn::GroupNorm> norm_;
  tnn::Linear q{nullptr}, k{nullptr}, v{nullptr}, out{nullptr};
};

// A level: residual blocks, each followed by attention where `attends`, then a resampling
// convolution unless it is the last.
struct Block final : tnn::Module {
  // `ins` are the channels that enter each residual block.
  Block(const std::vector<std::int64_t>& ins, std::int64_t channels, const UnetConfig& config,
        bool attends, double factor, std::int64_t attention_groups) {
    const auto resnet_list = register_module("resnets", std::make_shared<Group>());
    for (std::size_t i = 0; i < ins.size(); ++i)
      resnets.push_back(resnet_list->register_module(
          std::to_string(i), std::make_shared<Resnet>(ins[i], channels, config, factor)));
    if (!attends) return;
    // The middle attends between its two residual blocks.
    const auto attention_list = register_module("attentions", std::make_shared<Group>());
    const std::size_t count = attention_groups >= 0 ? 1 : ins.size();
    for (std::size_t i = 0; i < count; ++i)
      attentions.push_back(attention_list->register_module(
          std::to_string(i),
          std::make_shared<Attention>(
              channels, config, attention_groups >= 0 ? attention_groups : config.groups, factor)));
  }

  void add_resampling(const std::string& list, std::int64_t channels, std::int64_t stride,
                      std::int64_t padding) {
    resampling = register_module(list, std::make_shared<Group>())
                     ->register_module("0", std::make_shared<Group>())
                     ->register_module("conv", conv(channels, channels, 3, stride, padding));
  }

  std::vector<std::shared_ptr<Resnet>> resnets;
  std::vector<std::shared_ptr<Attention>> attentions;  // of each residual block, or none
  tnn::Conv2d resampling{nullptr};
};

class Unet2d final : public Denoiser {
 public:
  explicit Unet2d(const UnetConfig& config) : config_(config) {
    const auto& widths = config.widths;
    const std::size_t levels = widths.size();
    conv_in_ = register_module("conv_in", conv(config.shape.channels, widths.front(), 3));
    const auto time = register_module("time_embedding", std::make_shared<Group>());
    time_in_ = time->register_module("linear_1", tnn::Linear(widths.front(), config.time_width));
    time_out_ =
        time->register_module("linear_2", tnn::Linear(config.time_width, config.time_width));

    const auto layers = static_cast<std::size_t>(config.layers);
    const auto down = register_module("down_blocks", std::make_shared<Group>());
    std::vector<std::int64_t> skips{widths.front()};
    for (std::size_t level = 0; level < levels; ++level) {
      std::vector<std::int64_t> ins(layers, widths[level]);
      if (level > 0) ins.front() = widths[level - 1];
      down_.push_back(down->register_module(
          std::to_string(level), std::make_shared<Block>(ins, widths[level], config,
                                                         config.down_attention[level], 1, -1)));
      skips.insert(skips.end(), layers, widths[level]);
      if (level + 1 == levels) break;
      down_.back()->add_resampling("downsamplers", widths[level], 2, config.downsample_padding);
      skips.push_back(widths[level]);
    }
    const std::vector<std::int64_t> middle(2, widths.back());
    mid_ = register_module(
        "mid_block", std::make_shared<Block>(middle, widths.back(), config, config.mid_attention,
                                             config.mid_scale, config.mid_attention_groups));
    const auto up = register_module("up_blocks", std::make_shared<Group>());
    std::int64_t width = widths.back();
    for (std::size_t i = 0; i < levels; ++i) {
      const std::int64_t channels = widths[levels - 1 - i];
      std::vector<std::int64_t> ins;
      for (std::size_t layer = 0; layer <= layers; ++layer) {
        ins.push_back(width + skips.back());
        skips.pop_back();
        width = channels;
      }
      up_.push_back(up->register_module(
          std::to_string(i),
          std::make_shared<Block>(ins, channels, config, config.up_attention[i], 1, -1)));
      if (i + 1 < levels) up_.back()->add_resampling("upsamplers", channels, 1, 1);
    }
    norm_out_ = register_module("conv_norm_out", norm(config.groups, width, config.norm_eps));
    conv_out_ = register_module("conv_out", conv(width, config.out_channels, 3));
  }

  Tensor forward(const Tensor& x_t, const Tensor& t) override {
    const Tensor input = config_.center_input ? 2 * x_t - 1 : x_t;
    const Tensor emb = at::silu(time_out_->forward(at::silu(time_in_->forward(sinusoid(t)))));
    Tensor h = conv_in_->forward(input.contiguous(at::MemoryFormat::ChannelsLast));
    std::vector<Tensor> skips{h};
    std::size_t number = 0;  // of the feature, as in the suite's own UNets
    for (const auto& block : down_) {
      for (std::size_t i = 0; i < block->resnets.size(); ++i) {
        skips.push_back(h = through(*block, i, h, emb));
        feature("down", number++, h);
      }
      if (!block->resampling) continue;
      // Without padding the package adds a row below and a column to the right.
      if (config_.downsample_padding == 0) h = at::constant_pad_nd(h, {0, 1, 0, 1});
      skips.push_back(h = block->resampling->forward(h));
    }
    h = mid_->resnets[0]->forward(h, emb);
    if (!mid_->attentions.empty()) h = mid_->attentions[0]->forward(h);
    feature("middle", h = mid_->resnets[1]->forward(h, emb));
    number = 0;
    for (const auto& block : up_) {
      for (std::size_t i = 0; i < block->resnets.size(); ++i) {
        h = through(*block, i, at::cat({h, skips.back()}, 1), emb);
        skips.pop_back();
        feature("up", number++, h);
      }
      if (!block->resampling) continue;
      h = at::upsample_nearest2d(h, {2 * h.size(2), 2 * h.size(3)});
      h = block->resampling->forward(h);
    }
    return conv_out_->forward(at::silu(norm_out_->forward(h)));
  }

 private:
  static Tensor through(Block& block, std::size_t i, const Tensor& x, const Tensor& emb) {
    const Tensor h = block.resnets[i]->forward(x, emb);
    return block.attentions.empty() ? h : block.attentions[i]->forward(h);
  }

  // [N,width]: sines then cosines, or with flip_sin_to_cos the other way round.
  Tensor sinusoid(const Tensor& t) const {
    const std::int64_t half = config_.widths.front() / 2;
    const auto [cos, sin] = nn::sinusoid(t, half, static_cast<double>(half) - config_.freq_shift);
    return config_.flip_sin_to_cos ? at::cat({cos, sin}, 1) : at::cat({sin, cos}, 1);
  }

  UnetConfig config_;
  tnn::Conv2d conv_in_{nullptr}, conv_out_{nullptr};
  tnn::Linear time_in_{nullptr}, time_out_{nullptr};
  std::shared_ptr<nn::GroupNorm> norm_out_;
  std::vector<std::shared_ptr<Block>> down_, up_;
  std::shared_ptr<Block> mid_;
};

}  // namespace dkdm::diffusers
