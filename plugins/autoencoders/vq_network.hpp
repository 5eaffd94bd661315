// The networks of VQModel (Esser et al. 2021) as latent diffusion has them: encoder, codebook and
// decoder, with names, order and shapes of the parameters as in the reference, so that its
// checkpoints fit. Against its UNet: norms have eps 1e-6, nothing depends on a time, one attention
// of a single head in the middle, downsampling pads on the right and below alone.
//
// Activations are [N,C,H,W] in channels-last memory.
#pragma once

#include <ATen/ATen.h>
#include <torch/nn/modules/conv.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "dkdm/nn.hpp"

namespace dkdm::autoencoders {

namespace tnn = torch::nn;

constexpr std::int64_t kGroups = 32;  // of normalisation

struct VqConfig {
  std::int64_t channels, ch;          // of images; base width
  std::vector<std::int64_t> ch_mult;  // width of each level, in ch; level 0 is at full size
  std::int64_t num_res_blocks, z_channels, embed_dim, n_embed;

  std::int64_t width(std::size_t level) const { return ch * ch_mult[level]; }
};

inline std::shared_ptr<nn::GroupNorm> norm(std::int64_t channels) {
  return std::make_shared<nn::GroupNorm>(kGroups, channels, /*eps=*/1e-6);
}

inline tnn::Conv2d conv(std::int64_t in, std::int64_t out, std::int64_t kernel = 3) {
  return tnn::Conv2d(tnn::Conv2dOptions(in, out, kernel).padding(kernel / 2));
}

template <class T>
std::shared_ptr<T> numbered(tnn::Module& parent, std::size_t index, std::shared_ptr<T> layer) {
  return parent.register_module(std::to_string(index), std::move(layer));
}

struct Names : tnn::Module {};  // a part of the names only

struct ResBlock final : tnn::Module {
  ResBlock(std::int64_t in, std::int64_t out) {
    norm1 = register_module("norm1", norm(in));
    conv1 = register_module("conv1", conv(in, out));
    norm2 = register_module("norm2", norm(out));
    conv2 = register_module("conv2", conv(out, out));
    if (in != out) nin_shortcut = register_module("nin_shortcut", conv(in, out, 1));
  }
  at::Tensor forward(const at::Tensor& x) {
    const at::Tensor h = conv1(at::silu(norm1->forward(x)));
    return conv2(at::silu(norm2->forward(h))) + (nin_shortcut ? nin_shortcut(x) : x);
  }
  std::shared_ptr<nn::GroupNorm> norm1, norm2;
  tnn::Conv2d conv1{nullptr}, conv2{nullptr}, nin_shortcut{nullptr};
};

// Every position attends to all, one head as wide as the level.
struct Attention final : tnn::Module {
  explicit Attention(std::int64_t channels) {
    norm_ = register_module("norm", norm(channels));
    q = register_module("q", conv(channels, channels, 1));
    k = register_module("k", conv(channels, channels, 1));
    v = register_module("v", conv(channels, channels, 1));
    proj_out = register_module("proj_out", conv(channels, channels, 1));
  }
  // Channels-last memory is already [N,H*W,C], and a convolution of width one a linear layer on it.
  at::Tensor forward(const at::Tensor& x) {
    const auto n = x.size(0), c = x.size(1), height = x.size(2), width = x.size(3);
    const at::Tensor tokens =
        norm_->forward(x).permute({0, 2, 3, 1}).reshape({n, height * width, c});
    const auto linear = [](const tnn::Conv2d& layer, const at::Tensor& input) {
      return at::linear(input, layer->weight.flatten(1), layer->bias);
    };
    const at::Tensor qkv = at::cat({linear(q, tokens), linear(k, tokens), linear(v, tokens)}, 2);
    const at::Tensor out = linear(proj_out, nn::self_attention(qkv, /*heads=*/1));
    return x + out.view({n, height, width, c}).permute({0, 3, 1, 2});
  }
  std::shared_ptr<nn::GroupNorm> norm_;
  tnn::Conv2d q{nullptr}, k{nullptr}, v{nullptr}, proj_out{nullptr};
};

struct Middle final : tnn::Module {
  explicit Middle(std::int64_t channels) {
    block_1 = register_module("block_1", std::make_shared<ResBlock>(channels, channels));
    attn_1 = register_module("attn_1", std::make_shared<Attention>(channels));
    block_2 = register_module("block_2", std::make_shared<ResBlock>(channels, channels));
  }
  at::Tensor forward(const at::Tensor& x) {
    return block_2->forward(attn_1->forward(block_1->forward(x)));
  }
  std::shared_ptr<ResBlock> block_1, block_2;
  std::shared_ptr<Attention> attn_1;
};

// The blocks of one level, and what halves or doubles the image after them, unless there is none.
struct Level final : tnn::Module {
  Level(std::int64_t in, std::int64_t out, std::int64_t blocks) {
    auto list = register_module("block", std::make_shared<Names>());
    for (std::int64_t i = 0; i < blocks; ++i) {
      block.push_back(numbered(*list, static_cast<std::size_t>(i),
                               std::make_shared<ResBlock>(i == 0 ? in : out, out)));
    }
  }
  // `name`: "downsample" or "upsample".
  void resample(const std::string& name, std::int64_t channels) {
    halves_ = name == "downsample";
    const auto options = tnn::Conv2dOptions(channels, channels, 3);
    auto layer = register_module(name, std::make_shared<Names>());
    conv_ = layer->register_module("conv",
                                   tnn::Conv2d(halves_ ? tnn::Conv2dOptions(options).stride(2)
                                                       : tnn::Conv2dOptions(options).padding(1)));
  }
  at::Tensor forward(at::Tensor h) {
    for (const auto& one : block) h = one->forward(h);
    if (!conv_) return h;
    if (halves_) return conv_(at::constant_pad_nd(h, {0, 1, 0, 1}));
    return conv_(at::upsample_nearest2d(h, {2 * h.size(2), 2 * h.size(3)}));
  }
  std::vector<std::shared_ptr<ResBlock>> block;
  tnn::Conv2d conv_{nullptr};
  bool halves_ = false;
};

// images [N,channels,H,W] -> [N,z_channels,h,w].
struct Encoder final : tnn::Module {
  explicit Encoder(const VqConfig& config) {
    conv_in = register_module("conv_in", conv(config.channels, config.ch));
    auto list = register_module("down", std::make_shared<Names>());
    std::int64_t width = config.ch;
    for (std::size_t i = 0; i < config.ch_mult.size(); ++i) {
      const auto out = config.width(i);
      down.push_back(
          numbered(*list, i, std::make_shared<Level>(width, out, config.num_res_blocks)));
      if (i + 1 < config.ch_mult.size()) down.back()->resample("downsample", out);
      width = out;
    }
    mid = register_module("mid", std::make_shared<Middle>(width));
    norm_out = register_module("norm_out", norm(width));
    conv_out = register_module("conv_out", conv(width, config.z_channels));
  }
  at::Tensor forward(const at::Tensor& x) {
    at::Tensor h = conv_in(x);
    for (const auto& level : down) h = level->forward(h);
    h = mid->forward(h);
    const nn::FullPrecision full;
    return conv_out(at::silu(norm_out->forward(nn::in_full(h))));
  }
  tnn::Conv2d conv_in{nullptr}, conv_out{nullptr};
  std::vector<std::shared_ptr<Level>> down;
  std::shared_ptr<Middle> mid;
  std::shared_ptr<nn::GroupNorm> norm_out;
};

// [N,z_channels,h,w] -> images [N,channels,H,W], without a bound.
struct Decoder final : tnn::Module {
  explicit Decoder(const VqConfig& config) {
    const std::size_t levels = config.ch_mult.size();
    conv_in = register_module("conv_in", conv(config.z_channels, config.width(levels - 1)));
    mid = register_module("mid", std::make_shared<Middle>(config.width(levels - 1)));
    auto list = register_module("up", std::make_shared<Names>());
    for (std::size_t i = 0; i < levels; ++i) {
      const auto in = config.width(std::min(i + 1, levels - 1)), out = config.width(i);
      up.push_back(numbered(*list, i, std::make_shared<Level>(in, out, config.num_res_blocks + 1)));
      if (i > 0) up.back()->resample("upsample", out);
    }
    norm_out = register_module("norm_out", norm(config.width(0)));
    conv_out = register_module("conv_out", conv(config.width(0), config.channels));
  }
  at::Tensor forward(const at::Tensor& z) {
    at::Tensor h = mid->forward(conv_in(z));
    for (std::size_t i = up.size(); i-- > 0;) h = up[i]->forward(h);
    const nn::FullPrecision full;
    return conv_out(at::silu(norm_out->forward(nn::in_full(h))));
  }
  tnn::Conv2d conv_in{nullptr}, conv_out{nullptr};
  std::shared_ptr<Middle> mid;
  std::vector<std::shared_ptr<Level>> up;  // 0 = the highest resolution, which comes last
  std::shared_ptr<nn::GroupNorm> norm_out;
};

}  // namespace dkdm::autoencoders
