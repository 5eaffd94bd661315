// ADM's UNet (Dhariwal & Nichol 2021): at the defaults as the paper's teachers and CNN students use
// it, with residual blocks with scale-shift conditioning, resampling inside them, attention at
// stated resolutions; by parameters whatever else guided-diffusion's and improved-diffusion's
// UNetModel can be without classes. Names, order and shapes of the parameters are the reference's,
// so its checkpoints fit.
//
// Activations are [N,C,H,W] in channels-last memory from the stem to the head.
#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>

#include "adm_unet_config.hpp"
#include "dkdm/nn.hpp"
#include "dkdm/plugin.hpp"
#include "image_sides.hpp"
#include "time_embedding.hpp"

namespace {

using namespace dkdm;
using adm::Config;
using at::Tensor;
namespace tnn = torch::nn;

// Takes the place of the reference's parameterless layers, which count in the names.
struct Unnamed : tnn::Module {};

// x must be the caller's own. In place where no gradient is wanted; autograd would copy x first.
Tensor activated(Tensor x) {
  return at::GradMode::is_enabled() && x.requires_grad() ? at::silu(x) : at::silu_(x);
}

std::shared_ptr<nn::GroupNorm> norm(std::int64_t channels) {
  return std::make_shared<nn::GroupNorm>(adm::kGroups, channels);
}

tnn::Conv2d conv(std::int64_t in, std::int64_t out, std::int64_t kernel, std::int64_t stride = 1) {
  return tnn::Conv2d(tnn::Conv2dOptions(in, out, kernel).padding(kernel / 2).stride(stride));
}

// A convolution that starts at zero: the block is the identity, the network's output 0.
tnn::Conv2d zero_conv(std::int64_t in, std::int64_t out) {
  auto layer = conv(in, out, 3);
  nn::zero_parameters(*layer);
  return layer;
}

// Registers layers under the numbers that the reference's Sequential gives them.
template <class T>
std::shared_ptr<T> numbered(tnn::Module& parent, int index, std::shared_ptr<T> layer) {
  return parent.register_module(std::to_string(index), std::move(layer));
}

struct Layers : tnn::Module {};  // a name only

enum class Resample { none, down, up };

Tensor resampled(const Tensor& x, Resample how) {
  if (how == Resample::down) return at::avg_pool2d(x, 2);
  if (how == Resample::up) return at::upsample_nearest2d(x, {2 * x.size(2), 2 * x.size(3)});
  return x;
}

// One layer of a block: h [N,C,H,W], emb [N,E] -> h.
struct Layer : tnn::Module {
  virtual Tensor forward(const Tensor& h, const Tensor& emb) = 0;
};

struct Stem final : Layer {
  Stem(std::int64_t in, std::int64_t out) {
    const auto options = conv(in, out, 3);
    weight = register_parameter("weight", options->weight);
    bias = register_parameter("bias", options->bias);
  }
  Tensor forward(const Tensor& x, const Tensor&) override {
    // The memory of one channel fits both formats and counts as channels-first, which every later
    // layer would follow: a copy with the strides that say channels-last.
    const bool grey = x.size(1) == 1;
    return at::conv2d(grey ? x.clone(at::MemoryFormat::ChannelsLast) : x, weight, bias,
                      /*stride=*/1, /*padding=*/1);
  }
  Tensor weight, bias;
};

// Halves or doubles the image outside residual blocks: by a strided convolution or by one after
// repetition; without convolutions by averaging or repetition alone.
struct Resampler final : Layer {
  Resampler(std::int64_t channels, Resample resample, bool convolution) : resample_(resample) {
    if (!convolution) return;
    const bool down = resample == Resample::down;
    layer = register_module(down ? "op" : "conv", conv(channels, channels, 3, down ? 2 : 1));
  }
  Tensor forward(const Tensor& x, const Tensor&) override {
    if (!layer) return resampled(x, resample_);
    return layer->forward(resample_ == Resample::up ? resampled(x, resample_) : x);
  }

 private:
  Resample resample_;
  tnn::Conv2d layer{nullptr};
};

struct ResBlock final : Layer {
  ResBlock(std::int64_t in, std::int64_t out, std::int64_t emb, const Config& config,
           Resample resample)
      : resample_(resample), scale_shift_(config.scale_shift) {
    auto in_layers = register_module("in_layers", std::make_shared<Layers>());
    in_norm = numbered(*in_layers, 0, norm(in));
    numbered(*in_layers, 1, std::make_shared<Unnamed>());
    in_conv = numbered(*in_layers, 2, conv(in, out, 3).ptr());
    auto emb_layers = register_module("emb_layers", std::make_shared<Layers>());
    numbered(*emb_layers, 0, std::make_shared<Unnamed>());
    emb_linear = numbered(*emb_layers, 1, tnn::Linear(emb, scale_shift_ ? 2 * out : out).ptr());
    auto out_layers = register_module("out_layers", std::make_shared<Layers>());
    out_norm = numbered(*out_layers, 0, norm(out));
    numbered(*out_layers, 1, std::make_shared<Unnamed>());
    out_dropout = numbered(*out_layers, 2, std::make_shared<nn::Dropout>(config.dropout));
    out_conv = numbered(*out_layers, 3, zero_conv(out, out).ptr());
    if (in != out) skip = register_module("skip_connection", conv(in, out, 1));
  }

  // emb comes with its SiLU already applied, once for all blocks.
  Tensor forward(const Tensor& x, const Tensor& emb) override {
    Tensor h = in_conv->forward(resampled(activated(in_norm->forward(x)), resample_));
    const Tensor time = emb_linear->forward(emb).unsqueeze(2).unsqueeze(3);
    if (scale_shift_) {
      const auto scale_shift = time.chunk(2, 1);
      h = at::addcmul(scale_shift[1], out_norm->forward(h), scale_shift[0] + 1);
    } else {
      h = out_norm->forward(h + time);
    }
    h = out_conv->forward(out_dropout->forward(activated(h)));
    const Tensor shortcut = resampled(x, resample_);
    return h.add_(skip ? skip->forward(shortcut) : shortcut);
  }

 private:
  Resample resample_;
  bool scale_shift_;
  std::shared_ptr<nn::GroupNorm> in_norm, out_norm;
  std::shared_ptr<tnn::Conv2dImpl> in_conv, out_conv;
  std::shared_ptr<tnn::LinearImpl> emb_linear;
  std::shared_ptr<nn::Dropout> out_dropout;
  tnn::Conv2d skip{nullptr};
};

struct Attention final : Layer {
  Attention(std::int64_t channels, const Config& config, bool output)
      : heads_(config.heads(channels, output)),
        order_(config.new_order ? nn::QkvOrder::parts_first : nn::QkvOrder::heads_first) {
    norm_ = register_module("norm", norm(channels));
    qkv = register_module("qkv", tnn::Conv1d(tnn::Conv1dOptions(channels, 3 * channels, 1)));
    proj_out = register_module("proj_out", tnn::Conv1d(tnn::Conv1dOptions(channels, channels, 1)));
    nn::zero_parameters(*proj_out);
  }

  // Channels-last memory is already [N, H*W, C]: tokens cost no copy, and a 1-D convolution of
  // width one is a linear layer on them.
  Tensor forward(const Tensor& x, const Tensor&) override {
    const auto n = x.size(0), c = x.size(1), height = x.size(2), width = x.size(3);
    const auto tokens = [&](const Tensor& h) {
      return h.permute({0, 2, 3, 1}).reshape({n, height * width, c});
    };
    const auto mixed = nn::self_attention(
        at::linear(tokens(norm_->forward(x)), qkv->weight.squeeze(2), qkv->bias), heads_, order_);
    const auto out = at::linear(mixed, proj_out->weight.squeeze(2), proj_out->bias);
    return x + out.view({n, height, width, c}).permute({0, 3, 1, 2});
  }

 private:
  std::int64_t heads_;
  nn::QkvOrder order_;
  std::shared_ptr<nn::GroupNorm> norm_;
  tnn::Conv1d qkv{nullptr}, proj_out{nullptr};
};

// Layers in sequence, as the reference's TimestepEmbedSequential.
struct Block final : tnn::Module {
  void add(std::shared_ptr<Layer> layer) {
    numbered(*this, static_cast<int>(layers.size()), layer);
    layers.push_back(std::move(layer));
  }
  Tensor forward(Tensor h, const Tensor& emb) {
    for (const auto& layer : layers) h = layer->forward(h, emb);
    return h;
  }
  std::vector<std::shared_ptr<Layer>> layers;
};

class AdmUnet final : public Denoiser {
 public:
  static ParamTable params() { return adm::param_table(); }

  AdmUnet(const Params& params, const SampleShape& shape) : config_(adm::config_of(params, shape)) {
    const auto time = config_.time_channels, emb = 4 * time, base = config_.model_channels;
    auto time_embed = register_module("time_embed", std::make_shared<Layers>());
    time_in = numbered(*time_embed, 0, tnn::Linear(time, emb).ptr());
    numbered(*time_embed, 1, std::make_shared<Unnamed>());
    time_out = numbered(*time_embed, 2, tnn::Linear(emb, emb).ptr());

    auto input_blocks = register_module("input_blocks", std::make_shared<Layers>());
    auto middle = register_module("middle_block", std::make_shared<Block>());
    auto output_blocks = register_module("output_blocks", std::make_shared<Layers>());
    const auto& mult = config_.channel_mult;
    std::int64_t width = mult.front() * base, resolution = shape.shorter_side();
    std::vector<std::int64_t> skips{width};

    const auto res = [&](Block& block, std::int64_t in, std::int64_t out,
                         Resample resample = Resample::none) {
      block.add(std::make_shared<ResBlock>(in, out, emb, config_, resample));
    };
    const auto resize = [&](Block& block, std::int64_t channels, Resample how) {
      if (config_.resblock_updown) return res(block, channels, channels, how);
      block.add(std::make_shared<Resampler>(channels, how, config_.conv_resample));
    };
    const auto attend_here = [&](Block& block, std::int64_t at_width, bool output) {
      const auto& where = config_.attention_resolutions;
      if (std::find(where.begin(), where.end(), resolution) != where.end())
        block.add(std::make_shared<Attention>(at_width, config_, output));
    };
    const auto new_block = [](tnn::Module& parent, std::vector<std::shared_ptr<Block>>& list) {
      list.push_back(numbered(parent, static_cast<int>(list.size()), std::make_shared<Block>()));
      return list.back();
    };

    new_block(*input_blocks, input_)->add(std::make_shared<Stem>(shape.channels, width));
    for (std::size_t level = 0; level < mult.size(); ++level) {
      for (std::int64_t i = 0; i < config_.num_res_blocks; ++i) {
        const auto block = new_block(*input_blocks, input_);
        const auto out = mult[level] * base;
        res(*block, width, out);
        attend_here(*block, width = out, /*output=*/false);
        skips.push_back(width);
      }
      if (level + 1 < mult.size()) {
        resize(*new_block(*input_blocks, input_), width, Resample::down);
        skips.push_back(width);
        resolution /= 2;
      }
    }
    res(*middle, width, width);
    middle->add(std::make_shared<Attention>(width, config_, /*output=*/false));
    res(*middle, width, width);
    middle_ = middle;
    for (std::size_t level = mult.size(); level-- > 0;) {
      for (std::int64_t i = 0; i <= config_.num_res_blocks; ++i) {
        const auto block = new_block(*output_blocks, output_);
        const auto out = mult[level] * base;
        res(*block, width + skips.back(), out);
        skips.pop_back();
        attend_here(*block, width = out, /*output=*/true);
        if (level > 0 && i == config_.num_res_blocks) {
          resize(*block, width, Resample::up);
          resolution *= 2;
        }
      }
    }
    auto out = register_module("out", std::make_shared<Layers>());
    out_norm = numbered(*out, 0, norm(width));
    numbered(*out, 1, std::make_shared<Unnamed>());
    out_conv = numbered(
        *out, 2, zero_conv(width, shape.channels * (params.flag("learn_sigma") ? 2 : 1)).ptr());
  }

  Tensor forward(const Tensor& x_t, const Tensor& t) override {
    // Every block's embedding layer begins with the activation.
    const Tensor emb = students::time_embedding(nn::timestep_embedding(t, config_.time_channels),
                                                x_t.scalar_type(), *time_in, *time_out);
    Tensor h = x_t.contiguous(at::MemoryFormat::ChannelsLast);
    std::vector<Tensor> skips;
    for (std::size_t i = 0; i < input_.size(); ++i) {
      skips.push_back(h = input_[i]->forward(h, emb));
      feature("down", i, h);
    }
    feature("middle", h = middle_->forward(h, emb));
    for (std::size_t i = 0; i < output_.size(); ++i) {
      h = output_[i]->forward(at::cat({h, skips.back()}, 1), emb);
      skips.pop_back();
      feature("up", i, h);
    }
    const nn::FullPrecision full;
    return out_conv->forward(activated(out_norm->forward(nn::in_full(h))));
  }

 private:
  Config config_;
  std::shared_ptr<tnn::LinearImpl> time_in, time_out;
  std::vector<std::shared_ptr<Block>> input_, output_;
  std::shared_ptr<Block> middle_;
  std::shared_ptr<nn::GroupNorm> out_norm;
  std::shared_ptr<tnn::Conv2dImpl> out_conv;
};

}  // namespace

DKDM_STUDENT("adm-unet", "2", "ADM's UNet: the paper's CNN teachers and students", AdmUnet)
