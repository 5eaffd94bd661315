// A UNet of depthwise-separable convolutions: the layers of MobileNet (Howard et al. 2017, Fig. 3)
// in the residual blocks of a diffusion UNet. A separable convolution is a 3 x 3 convolution of
// each channel alone, normalisation, activation, and a 1 x 1 convolution across channels: about a
// ninth of the work and weights of a full one. As in MobileNet the image is halved by a stride of
// the depthwise part, and the first layer is a full convolution. Adapted: batch normalisation
// becomes group normalisation (a row must not depend on its neighbours) and ReLU6 SiLU; the time
// scales and shifts the second norm of a block (Dhariwal & Nichol 2021); attention at small sizes
// and a last full 3 x 3 convolution, as diffusion UNets have them.
//
// Activations are [N,C,H,W] in channels-last memory.
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>

#include "dkdm/nn.hpp"
#include "dkdm/plugin.hpp"
#include "image_sides.hpp"
#include "time_embedding.hpp"

namespace {

using namespace dkdm;
using at::Tensor;
namespace tnn = torch::nn;

constexpr std::int64_t kGroups = 8;

std::shared_ptr<nn::GroupNorm> norm(std::int64_t channels) {
  return std::make_shared<nn::GroupNorm>(kGroups, channels);
}

tnn::Conv2d conv(std::int64_t in, std::int64_t out, std::int64_t kernel) {
  return tnn::Conv2d(tnn::Conv2dOptions(in, out, kernel).padding(kernel / 2));
}

template <class T>
T zeroed(T layer) {
  nn::zero_parameters(*layer);
  return layer;
}

// Depthwise 3 x 3, norm, SiLU, pointwise; x [N,in,H,W] -> [N,out,H/stride,W/stride].
struct Separable final : tnn::Module {
  Separable(std::int64_t in, std::int64_t out, std::int64_t stride = 1) {
    const auto options =
        tnn::Conv2dOptions(in, in, 3).padding(1).stride(stride).groups(in).bias(false);
    depthwise = register_module("depthwise", tnn::Conv2d(options));
    norm_ = register_module("norm", norm(in));
    pointwise = register_module("pointwise", conv(in, out, 1));
  }
  Tensor forward(const Tensor& x) {
    return pointwise->forward(at::silu(norm_->forward(depthwise->forward(x))));
  }

  tnn::Conv2d depthwise{nullptr}, pointwise{nullptr};
  std::shared_ptr<nn::GroupNorm> norm_;
};

// Softmax attention over the pixels, added to them; starts as the identity.
struct Attention final : tnn::Module {
  Attention(std::int64_t channels, std::int64_t head) : heads_(channels / head) {
    norm_ = register_module("norm", norm(channels));
    qkv = register_module("qkv", tnn::Linear(channels, 3 * channels));
    proj = register_module("proj", zeroed(tnn::Linear(channels, channels)));
  }
  Tensor forward(const Tensor& x) {
    const Tensor rows = norm_->forward(x).permute({0, 2, 3, 1});  // [N,H,W,C]
    const Tensor mixed = nn::self_attention(qkv->forward(rows.flatten(1, 2)), heads_);
    return x + proj->forward(mixed).view(rows.sizes()).permute({0, 3, 1, 2});
  }

 private:
  std::int64_t heads_;
  std::shared_ptr<nn::GroupNorm> norm_;
  tnn::Linear qkv{nullptr}, proj{nullptr};
};

struct Config {
  std::int64_t base, blocks, attention_size, head;
  std::vector<std::int64_t> mult;
  double dropout;
};

// x [N,in,H,W], emb [N,E] -> [N,out,H,W]; attention where the image is small enough.
struct Block final : tnn::Module {
  Block(std::int64_t in, std::int64_t out, std::int64_t size, const Config& config) {
    first = register_module("first", std::make_shared<Separable>(in, out));
    time = register_module("time", tnn::Linear(4 * config.base, 2 * out));
    norm_ = register_module("norm", norm(out));
    dropout = register_module("dropout", std::make_shared<nn::Dropout>(config.dropout));
    second = register_module("second", std::make_shared<Separable>(out, out));
    nn::zero_parameters(*second->pointwise);
    if (in != out) skip = register_module("skip", conv(in, out, 1));
    if (size <= config.attention_size)
      attention = register_module("attention", std::make_shared<Attention>(out, config.head));
  }

  Tensor forward(const Tensor& x, const Tensor& emb) {
    const auto m = time->forward(emb).unsqueeze(2).unsqueeze(3).chunk(2, 1);
    Tensor h = at::addcmul(m[1], norm_->forward(first->forward(x)), m[0] + 1);
    h = second->forward(dropout->forward(at::silu(h))) + (skip ? skip->forward(x) : x);
    return attention ? attention->forward(h) : h;
  }

 private:
  std::shared_ptr<Separable> first, second;
  tnn::Linear time{nullptr};
  std::shared_ptr<nn::GroupNorm> norm_;
  std::shared_ptr<nn::Dropout> dropout;
  tnn::Conv2d skip{nullptr};
  std::shared_ptr<Attention> attention;
};

// Throws ConfigError for a network that cannot be at `shape`.
Config config_of(const Params& params, const SampleShape& shape) {
  Config config{params.integer("model_channels"), params.integer("num_res_blocks"),
                params.integer("attention_size"), params.integer("num_head_channels"),
                params.integers("channel_mult"),  params.real("dropout")};
  if (config.mult.empty())
    throw ConfigError("channel_mult is empty, expected one factor a level, as [1, 2]");
  if (config.base % kGroups != 0) {
    throw ConfigError("model_channels is " + std::to_string(config.base) +
                      ", expected a multiple of the " + std::to_string(kGroups) + " groups");
  }
  students::check_levels(shape, config.mult.size());
  const std::int64_t size = shape.shorter_side();
  for (std::size_t level = 0; level < config.mult.size(); ++level) {
    const std::int64_t width = config.base * config.mult[level];
    if (size >> level > config.attention_size || width % config.head == 0) continue;
    throw ConfigError("num_head_channels is " + std::to_string(config.head) +
                      ", expected a divisor of the " + std::to_string(width) + " channels at " +
                      std::to_string(size >> level) + " pixels");
  }
  return config;
}

struct Layers : tnn::Module {};  // a name only

class UnetLite final : public Denoiser {
 public:
  static ParamTable params() {
    return {
        integer("model_channels", 64, "channels at factor 1, a multiple of 8").between(8, 4096),
        integers("channel_mult", {1, 2, 4}, "factor of model_channels at each level")
            .between(1, 64)
            .at_most_elements(16),
        integer("num_res_blocks", 2, "residual blocks a level").between(1, 64),
        integer("attention_size", 8,
                "attention at levels of at most so many pixels on the shorter side; 0 = none")
            .between(0, 4096),
        integer("num_head_channels", 32, "channels of an attention head").between(1, 65536),
        real("dropout", 0.1, "in the residual blocks").between(0, 0.999),
        flag("learn_sigma", true, "predict the variance as well"),
    };
  }

  UnetLite(const Params& params, const SampleShape& shape) : config_(config_of(params, shape)) {
    const std::int64_t size = shape.shorter_side();
    const auto levels = config_.mult.size();
    time_in_ = register_module("time_in", tnn::Linear(config_.base, 4 * config_.base));
    time_out_ = register_module("time_out", tnn::Linear(4 * config_.base, 4 * config_.base));
    std::int64_t width = config_.base * config_.mult.front();
    stem_ = register_module("stem", conv(shape.channels, width, 3));
    std::vector<std::int64_t> skips{width};
    const auto block = [&](Layers& part, std::int64_t in, std::int64_t size) {
      return part.register_module(std::to_string(part.children().size()),
                                  std::make_shared<Block>(in, width, size, config_));
    };
    const auto down = register_module("down", std::make_shared<Layers>());
    const auto halve = register_module("halve", std::make_shared<Layers>());
    for (std::size_t level = 0; level < levels; ++level) {
      if (level > 0) {
        halve_.push_back(halve->register_module(std::to_string(level - 1),
                                                std::make_shared<Separable>(width, width, 2)));
        skips.push_back(width);
      }
      for (std::int64_t i = 0; i < config_.blocks; ++i) {
        const auto in = width;
        width = config_.base * config_.mult[level];
        down_.push_back(block(*down, in, size >> level));
        skips.push_back(width);
      }
    }
    const auto middle = register_module("middle", std::make_shared<Layers>());
    for (int i = 0; i < 2; ++i) middle_.push_back(block(*middle, width, size >> (levels - 1)));
    const auto up = register_module("up", std::make_shared<Layers>());
    const auto twice = register_module("double", std::make_shared<Layers>());
    for (std::size_t level = levels; level-- > 0;) {
      for (std::int64_t i = 0; i <= config_.blocks; ++i) {
        const auto in = width + skips.back();
        skips.pop_back();
        width = config_.base * config_.mult[level];
        up_.push_back(block(*up, in, size >> level));
      }
      if (level > 0)
        double_.push_back(twice->register_module(std::to_string(levels - 1 - level),
                                                 std::make_shared<Separable>(width, width)));
    }
    norm_ = register_module("norm", norm(width));
    out_ = register_module(
        "out", zeroed(conv(width, shape.channels * (params.flag("learn_sigma") ? 2 : 1), 3)));
  }

  Tensor forward(const Tensor& x_t, const Tensor& t) override {
    const Tensor emb = students::time_embedding(nn::timestep_embedding(t, config_.base),
                                                x_t.scalar_type(), *time_in_, *time_out_);
    const auto blocks = static_cast<std::size_t>(config_.blocks), levels = config_.mult.size();
    // One channel fits both formats and would count as channels-first: a copy says which is meant.
    const auto last = at::MemoryFormat::ChannelsLast;
    Tensor h = stem_->forward(x_t.size(1) == 1 ? x_t.clone(last) : x_t.contiguous(last));
    std::vector<Tensor> skips{h};
    for (std::size_t i = 0; i < down_.size(); ++i) {
      if (i > 0 && i % blocks == 0) skips.push_back(h = halve_[i / blocks - 1]->forward(h));
      skips.push_back(h = down_[i]->forward(h, emb));
      feature("down", i, h);
    }
    for (const auto& block : middle_) h = block->forward(h, emb);
    feature("middle", h);
    for (std::size_t i = 0; i < up_.size(); ++i) {
      h = up_[i]->forward(at::cat({h, skips.back()}, 1), emb);
      skips.pop_back();
      feature("up", i, h);
      const std::size_t level = i / (blocks + 1);  // counted from the smallest
      if (i % (blocks + 1) == blocks && level + 1 < levels)
        h = double_[level]->forward(at::upsample_nearest2d(h, {2 * h.size(2), 2 * h.size(3)}));
    }
    const nn::FullPrecision full;
    return out_->forward(at::silu(norm_->forward(nn::in_full(h))));
  }

 private:
  Config config_;
  tnn::Linear time_in_{nullptr}, time_out_{nullptr};
  tnn::Conv2d stem_{nullptr}, out_{nullptr};
  std::shared_ptr<nn::GroupNorm> norm_;
  std::vector<std::shared_ptr<Separable>> halve_, double_;
  std::vector<std::shared_ptr<Block>> down_, middle_, up_;
};

}  // namespace

DKDM_STUDENT("unet-lite", "2", "UNet of depthwise-separable convolutions (MobileNet)", UnetLite)
