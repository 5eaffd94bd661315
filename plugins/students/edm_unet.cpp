// DDPM++ (Song et al. 2021) as EDM's SongUNet builds it (Karras et al. 2022, Table 1 and appendix
// F), unconditional and without augmentation labels; with EDM's preconditioning off or on. Defaults
// are EDM's for CIFAR10. Names, order and shapes of the parameters are those of the authors' code.
// Adapted: a head of 2C channels, eps and v, where the variance is learned.
//
// Preconditioning. The chain gives x_t = sqrt(a) x_0 + sqrt(1 - a) eps, a = alpha_bar of step t. In
// EDM's terms that is x = x_t / sqrt(a) = x_0 + sigma eps with sigma^2 = (1 - a) / a, and
//   D(x; sigma) = c_skip x + c_out F(c_in x; c_noise),  s = sigma_data,
//   c_skip = s^2 / (sigma^2 + s^2), c_out = sigma s / sqrt(sigma^2 + s^2),
//   c_in = 1 / sqrt(sigma^2 + s^2), c_noise = ln(sigma) / 4
// is the image. So eps = (x - D) / sigma = (1 - c_skip) / sigma x - c_out / sigma F. With
// w = 1 - a + a s^2 (the variance of x_t) and sigma^2 + s^2 = w / a that becomes
//   eps = sqrt(1 - a) / w x_t - s sqrt(a / w) F(x_t / sqrt(w); c_noise),
// whose coefficients are bounded at both ends of the chain. v is F's as it is. Without
// preconditioning eps = F(x_t; t), which is EDM's "VP" column: c_skip = 1, c_out = -sigma.
//
// Activations are [N,C,H,W] in channels-last memory.
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>

#include <algorithm>
#include <cmath>

#include "dkdm/diffusion.hpp"
#include "dkdm/nn.hpp"
#include "dkdm/plugin.hpp"
#include "image_sides.hpp"
#include "time_embedding.hpp"

namespace {

using namespace dkdm;
using at::Tensor;
namespace tnn = torch::nn;

const double kSkipScale = std::sqrt(0.5);  // keeps the variance of a sum of two
constexpr double kNearZero = 1e-5;         // weight of layers that begin at almost nothing
const double kAttention = std::sqrt(0.2);  // weight of the attention's first layer

// Xavier, uniform, times `gain`; bias 0.
template <class T>
T initialised(T layer, double gain = 1) {
  const at::NoGradGuard no_grad;
  const auto fans = static_cast<double>(layer->weight.size(0) + layer->weight.size(1));
  const auto taps = static_cast<double>(layer->weight[0][0].numel());
  const double bound = gain * std::sqrt(6 / (fans * taps));
  layer->weight.uniform_(-bound, bound);
  layer->bias.zero_();
  return layer;
}

tnn::Conv2d conv(std::int64_t in, std::int64_t out, std::int64_t kernel, double gain = 1) {
  return initialised(tnn::Conv2d(tnn::Conv2dOptions(in, out, kernel).padding(kernel / 2)), gain);
}

// At most 32 groups of at least 4 channels.
std::shared_ptr<nn::GroupNorm> norm(std::int64_t channels) {
  const std::int64_t groups = std::min<std::int64_t>(32, channels / 4);
  return std::make_shared<nn::GroupNorm>(groups, channels, 1e-6);
}

enum class Resample { none, down, up };

// The filter [1, 1]: the mean of four pixels, or repetition.
Tensor resampled(const Tensor& x, Resample how) {
  if (how == Resample::down) return at::avg_pool2d(x, 2);
  if (how == Resample::up) return at::upsample_nearest2d(x, {2 * x.size(2), 2 * x.size(3)});
  return x;
}

struct BlockOptions {
  std::int64_t embedding;  // width of the noise embedding
  double dropout;
  bool attention = false;
  Resample resample = Resample::none;
};

// x [N,in,H,W], emb [N,E] -> [N,out,H',W'].
struct Block final : tnn::Module {
  Block(std::int64_t in, std::int64_t out, const BlockOptions& options)
      : in_channels(in), out_channels(out), resample_(options.resample) {
    norm0 = register_module("norm0", norm(in));
    conv0 = register_module("conv0", conv(in, out, 3));
    affine = register_module("affine", initialised(tnn::Linear(options.embedding, out)));
    norm1 = register_module("norm1", norm(out));
    dropout = register_module("dropout", std::make_shared<nn::Dropout>(options.dropout));
    conv1 = register_module("conv1", conv(out, out, 3, kNearZero));
    if (in != out || resample_ != Resample::none) skip = register_module("skip", conv(in, out, 1));
    if (!options.attention) return;
    norm2 = register_module("norm2", norm(out));
    qkv = register_module("qkv", conv(out, 3 * out, 1, kAttention));
    proj = register_module("proj", conv(out, out, 1, kNearZero));
  }

  Tensor forward(const Tensor& x, const Tensor& emb) {
    Tensor h = conv0->forward(resampled(at::silu(norm0->forward(x)), resample_));
    h = at::silu(norm1->forward(h + affine->forward(emb).unsqueeze(2).unsqueeze(3)));
    h = conv1->forward(dropout->forward(h));
    const Tensor shortcut = resampled(x, resample_);
    h = (h + (skip ? skip->forward(shortcut) : shortcut)) * kSkipScale;
    return qkv ? (h + attended(h)) * kSkipScale : h;
  }

  std::int64_t in_channels, out_channels;

 private:
  // One head. The authors' qkv has the three parts of a channel side by side; self_attention wants
  // them one after another.
  Tensor attended(const Tensor& x) {
    const auto n = x.size(0), c = x.size(1), height = x.size(2), width = x.size(3);
    const Tensor tokens = norm2->forward(x).permute({0, 2, 3, 1}).reshape({n, height * width, c});
    const Tensor weight = qkv->weight.reshape({c, 3, c}).transpose(0, 1).reshape({3 * c, c});
    const Tensor bias = qkv->bias.view({c, 3}).t().reshape({3 * c});
    const Tensor mixed = nn::self_attention(at::linear(tokens, weight, bias), /*heads=*/1);
    return at::linear(mixed, proj->weight.reshape({c, c}), proj->bias)
        .view({n, height, width, c})
        .permute({0, 3, 1, 2});
  }

  Resample resample_;
  std::shared_ptr<nn::GroupNorm> norm0, norm1, norm2;
  tnn::Conv2d conv0{nullptr}, conv1{nullptr}, skip{nullptr}, qkv{nullptr}, proj{nullptr};
  tnn::Linear affine{nullptr};
  std::shared_ptr<nn::Dropout> dropout;
};

struct Layers : tnn::Module {};  // a name only

// Throws ConfigError for a network that cannot be at `shape`.
void check(const Params& params, const SampleShape& shape) {
  const auto& mult = params.integers("channel_mult");
  if (mult.empty())
    throw ConfigError("channel_mult is empty, expected one factor a level, as [1, 2]");
  if (const auto base = params.integer("model_channels"); base % 4 != 0) {
    throw ConfigError("model_channels is " + std::to_string(base) +
                      ", expected a multiple of 4 (groups of four channels)");
  }
  for (const auto factor : mult) {
    const auto width = factor * params.integer("model_channels");
    if (width > 128 && width % 32 != 0) {
      throw ConfigError("model_channels times channel_mult is " + std::to_string(width) +
                        ", expected a multiple of the 32 groups, or at most 128");
    }
  }
  students::check_levels(shape, mult.size());
  std::string levels;
  std::vector<std::int64_t> sizes;
  for (std::size_t i = 0; i < mult.size(); ++i) {
    sizes.push_back(shape.shorter_side() >> i);
    levels += (i == 0 ? "" : ", ") + std::to_string(sizes.back());
  }
  for (const auto wanted : params.integers("attn_resolutions")) {
    if (std::find(sizes.begin(), sizes.end(), wanted) != sizes.end()) continue;
    throw ConfigError("attn_resolutions has " + std::to_string(wanted) + ", the levels are of " +
                      levels + " pixels");
  }
}

// [N] -> f32 [N,width]: sines, then cosines, of frequencies 1 … 1/10000, the last one included.
Tensor noise_embedding(const Tensor& label, std::int64_t width) {
  const std::int64_t half = width / 2;
  const auto [cos, sin] = nn::sinusoid(label, half, static_cast<double>(half - 1));
  return at::cat({sin, cos}, 1);
}

class EdmUnet final : public Denoiser {
 public:
  static ParamTable params() {
    return {
        integer("model_channels", 128, "channels at factor 1, a multiple of 4").between(4, 4096),
        integers("channel_mult", {2, 2, 2}, "factor of model_channels at each level")
            .between(1, 64)
            .at_most_elements(16),
        integer("channel_mult_emb", 4, "width of the noise embedding, in model_channels")
            .between(1, 64),
        integer("num_blocks", 4, "residual blocks a level").between(1, 64),
        integers("attn_resolutions", {16},
                 "pixels of the levels with attention, on the shorter side")
            .between(1, 4096)
            .at_most_elements(16),
        real("dropout", 0.13, "in the residual blocks").between(0, 0.999),
        flag("precondition", false, "EDM's scaling of input and output by the noise level"),
        real("sigma_data", 0.5, "spread of the images, where preconditioned").between(0.01, 10),
        flag("learn_sigma", true, "predict the variance as well"),
    };
  }

  EdmUnet(const Params& params, const StudentContext& context)
      : noise_channels_(params.integer("model_channels")), channels_(context.shape.channels) {
    const SampleShape& shape = context.shape;
    check(params, shape);
    const auto base = params.integer("model_channels"), blocks = params.integer("num_blocks");
    const auto emb = base * params.integer("channel_mult_emb");
    const auto& mult = params.integers("channel_mult");
    const auto& where = params.integers("attn_resolutions");
    const auto levels = static_cast<std::int64_t>(mult.size());
    const auto attends = [&](std::int64_t level) {
      return std::find(where.begin(), where.end(), shape.shorter_side() >> level) != where.end();
    };
    const auto pixels = [&](std::int64_t level) {  // as the authors begin a layer's name
      return std::to_string(shape.height >> level) + "x" + std::to_string(shape.width >> level) +
             "_";
    };

    map_layer0_ = register_module("map_layer0", initialised(tnn::Linear(base, emb)));
    map_layer1_ = register_module("map_layer1", initialised(tnn::Linear(emb, emb)));
    const auto enc = register_module("enc", std::make_shared<Layers>());
    const auto dec = register_module("dec", std::make_shared<Layers>());
    std::int64_t width = base;
    std::vector<std::int64_t> skips{width};
    const auto add = [&](Layers& half, std::int64_t level, const std::string& name, std::int64_t in,
                         bool attention, Resample resample = Resample::none) {
      const BlockOptions options{emb, params.real("dropout"), attention, resample};
      return half.register_module(pixels(level) + name,
                                  std::make_shared<Block>(in, width, options));
    };
    for (std::int64_t level = 0; level < levels; ++level) {
      if (level == 0) {
        stem_ = enc->register_module(pixels(0) + "conv", conv(shape.channels, base, 3));
      } else {
        encoder_.push_back(add(*enc, level, "down", width, false, Resample::down));
        skips.push_back(width);
      }
      for (std::int64_t i = 0; i < blocks; ++i) {
        const auto in = width;
        width = base * mult[static_cast<std::size_t>(level)];
        encoder_.push_back(add(*enc, level, "block" + std::to_string(i), in, attends(level)));
        skips.push_back(width);
      }
    }
    for (std::int64_t level = levels; level-- > 0;) {
      if (level == levels - 1) {
        decoder_.push_back(add(*dec, level, "in0", width, /*attention=*/true));
        decoder_.push_back(add(*dec, level, "in1", width, false));
      } else {
        decoder_.push_back(add(*dec, level, "up", width, false, Resample::up));
      }
      for (std::int64_t i = 0; i <= blocks; ++i) {
        const auto in = width + skips.back();
        skips.pop_back();
        width = base * mult[static_cast<std::size_t>(level)];
        const bool attention = i == blocks && attends(level);
        decoder_.push_back(add(*dec, level, "block" + std::to_string(i), in, attention));
      }
    }
    out_norm_ = dec->register_module(pixels(0) + "aux_norm", norm(width));
    out_conv_ = dec->register_module(
        pixels(0) + "aux_conv",
        conv(width, shape.channels * (params.flag("learn_sigma") ? 2 : 1), 3, kNearZero));

    if (!params.flag("precondition")) return;
    sigma_data_ = params.real("sigma_data");
    DiffusionConfig whole = context.diffusion;
    whole.respacing.clear();
    const GaussianDiffusion process(whole);
    std::vector<double> log_sigma;
    for (const double a : process.tables().alpha_bar)
      log_sigma.push_back(std::log((1 - a) / a) / 2);
    log_sigma_ = register_buffer("log_sigma", at::tensor(log_sigma, at::kDouble));
  }

  Tensor forward(const Tensor& x_t, const Tensor& t) override {
    if (!log_sigma_.defined()) return network(x_t, t.to(at::kFloat));
    // Everything per image in f64 from ln(sigma); a = 1 / (1 + sigma^2) is a sigmoid of it.
    const Tensor log_sigma = at_step(t);
    const Tensor a = at::sigmoid(-2 * log_sigma), noise = at::sigmoid(2 * log_sigma);
    const Tensor variance = noise + a * (sigma_data_ * sigma_data_);
    const auto column = [&](const Tensor& v) {
      return v.to(x_t.scalar_type()).view({-1, 1, 1, 1});
    };
    const Tensor out = network(x_t * column(variance.rsqrt()), (log_sigma / 4).to(at::kFloat));
    const Tensor eps = x_t * column(noise.sqrt() / variance) -
                       out.narrow(1, 0, channels_) * column(sigma_data_ * (a / variance).sqrt());
    if (out.size(1) == channels_) return eps;
    return at::cat({eps, out.narrow(1, channels_, channels_)}, 1)
        .contiguous(at::MemoryFormat::ChannelsLast);
  }

 private:
  // ln(sigma) [N] f64 of steps t, between two steps on the line through both.
  Tensor at_step(const Tensor& t) const {
    const Tensor place = t.to(at::kDouble), table = log_sigma_.to(at::kDouble);
    const Tensor below = place.floor();
    const auto at_index = [&](const Tensor& step) {
      return table.index_select(0, step.clamp_max(table.size(0) - 1).to(at::kLong));
    };
    return at::lerp(table.index_select(0, below.to(at::kLong)), at_index(below + 1), place - below);
  }

  // SongUNet: x [N,C,H,W], noise label [N] f32.
  Tensor network(const Tensor& x, const Tensor& label) {
    const Tensor emb = students::time_embedding(noise_embedding(label, noise_channels_),
                                                x.scalar_type(), *map_layer0_, *map_layer1_);
    Tensor h = stem_->forward(channels_last(x));
    std::vector<Tensor> skips{h};
    for (std::size_t i = 0; i < encoder_.size(); ++i) {
      skips.push_back(h = encoder_[i]->forward(h, emb));
      feature("down", i, h);
    }
    constexpr std::size_t kMiddle = 2;  // the decoder begins with the blocks between both halves
    for (std::size_t i = 0; i < decoder_.size(); ++i) {
      if (decoder_[i]->in_channels != h.size(1)) {
        h = at::cat({h, skips.back()}, 1);
        skips.pop_back();
      }
      h = decoder_[i]->forward(h, emb);
      if (i + 1 == kMiddle) feature("middle", h);
      else if (i >= kMiddle) feature("up", i - kMiddle, h);
    }
    const nn::FullPrecision full;
    return out_conv_->forward(at::silu(out_norm_->forward(nn::in_full(h))));
  }

  // One channel fits both formats and would count as channels-first: a copy says which is meant.
  static Tensor channels_last(const Tensor& x) {
    const auto last = at::MemoryFormat::ChannelsLast;
    return x.size(1) == 1 ? x.clone(last) : x.contiguous(last);
  }

  std::int64_t noise_channels_, channels_;
  double sigma_data_ = 0;
  Tensor log_sigma_;  // f64 [T], defined where preconditioned
  tnn::Linear map_layer0_{nullptr}, map_layer1_{nullptr};
  tnn::Conv2d stem_{nullptr}, out_conv_{nullptr};
  std::shared_ptr<nn::GroupNorm> out_norm_;
  std::vector<std::shared_ptr<Block>> encoder_, decoder_;
};

}  // namespace

DKDM_STUDENT("edm-unet", "3", "DDPM++ UNet as in EDM, its preconditioning off or on", EdmUnet)
