// ADM's UNet (Dhariwal & Nichol 2021) as the paper's teachers and CNN students use it: residual
// blocks with scale-shift conditioning, resampling inside them, attention at stated resolutions.
// Names, order and shapes of the parameters are the reference's, so its checkpoints fit.
//
// Activations are [N,C,H,W] in channels-last memory from the stem to the head.
#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>

#include "dkdm/nn.hpp"
#include "dkdm/plugin.hpp"

namespace {

using namespace dkdm;
using at::Tensor;
namespace tnn = torch::nn;

constexpr std::int64_t kGroups = 32;

// Takes the place of the reference's parameterless layers, which count in the names.
struct Unnamed : tnn::Module {};

// x must be the caller's own. In place where no gradient is wanted; autograd would copy x first.
Tensor activated(Tensor x) {
  return at::GradMode::is_enabled() && x.requires_grad() ? at::silu(x) : at::silu_(x);
}

tnn::GroupNorm norm(std::int64_t channels) {
  return tnn::GroupNorm(tnn::GroupNormOptions(kGroups, channels));
}

tnn::Conv2d conv(std::int64_t in, std::int64_t out, std::int64_t kernel) {
  return tnn::Conv2d(tnn::Conv2dOptions(in, out, kernel).padding(kernel / 2));
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

struct ResBlock final : Layer {
  ResBlock(std::int64_t in, std::int64_t out, std::int64_t emb, double dropout, Resample resample)
      : resample_(resample) {
    auto in_layers = register_module("in_layers", std::make_shared<Layers>());
    in_norm = numbered(*in_layers, 0, norm(in).ptr());
    numbered(*in_layers, 1, std::make_shared<Unnamed>());
    in_conv = numbered(*in_layers, 2, conv(in, out, 3).ptr());
    auto emb_layers = register_module("emb_layers", std::make_shared<Layers>());
    numbered(*emb_layers, 0, std::make_shared<Unnamed>());
    emb_linear = numbered(*emb_layers, 1, tnn::Linear(emb, 2 * out).ptr());
    auto out_layers = register_module("out_layers", std::make_shared<Layers>());
    out_norm = numbered(*out_layers, 0, norm(out).ptr());
    numbered(*out_layers, 1, std::make_shared<Unnamed>());
    out_dropout = numbered(*out_layers, 2, std::make_shared<nn::Dropout>(dropout));
    out_conv = numbered(*out_layers, 3, zero_conv(out, out).ptr());
    if (in != out) skip = register_module("skip_connection", conv(in, out, 1));
  }

  // emb comes with its SiLU already applied, once for all blocks.
  Tensor forward(const Tensor& x, const Tensor& emb) override {
    Tensor h = in_conv->forward(resampled(activated(in_norm->forward(x))));
    const auto scale_shift = emb_linear->forward(emb).unsqueeze(2).unsqueeze(3).chunk(2, 1);
    h = at::addcmul(scale_shift[1], out_norm->forward(h), scale_shift[0] + 1);
    h = out_conv->forward(out_dropout->forward(activated(h)));
    const Tensor shortcut = resampled(x);
    return h.add_(skip ? skip->forward(shortcut) : shortcut);
  }

 private:
  Tensor resampled(const Tensor& x) const {
    if (resample_ == Resample::down) return at::avg_pool2d(x, 2);
    if (resample_ == Resample::up)
      return at::upsample_nearest2d(x, {2 * x.size(2), 2 * x.size(3)});
    return x;
  }

  Resample resample_;
  std::shared_ptr<tnn::GroupNormImpl> in_norm, out_norm;
  std::shared_ptr<tnn::Conv2dImpl> in_conv, out_conv;
  std::shared_ptr<tnn::LinearImpl> emb_linear;
  std::shared_ptr<nn::Dropout> out_dropout;
  tnn::Conv2d skip{nullptr};
};

struct Attention final : Layer {
  Attention(std::int64_t channels, std::int64_t head_channels) : heads_(channels / head_channels) {
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
        at::linear(tokens(norm_->forward(x)), qkv->weight.squeeze(2), qkv->bias), heads_);
    const auto out = at::linear(mixed, proj_out->weight.squeeze(2), proj_out->bias);
    return x + out.view({n, height, width, c}).permute({0, 3, 1, 2});
  }

 private:
  std::int64_t heads_;
  tnn::GroupNorm norm_{nullptr};
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

struct Config {
  std::int64_t model_channels, num_res_blocks, num_head_channels;
  std::vector<std::int64_t> channel_mult, attention_resolutions;
  double dropout;
};

// The paper's networks (the authors' arch files).
struct Preset {
  std::string name;
  std::int64_t image_size;
  Config config;
};

const std::vector<Preset>& presets() {
  static const std::vector<Preset> table{
      {"14M-CNN", 32, {64, 3, 32, {1, 2, 2, 2}, {16, 8}, 0.3}},
      {"24M-CNN", 32, {96, 2, 32, {1, 2, 2, 2}, {16, 8}, 0.3}},
      {"32M-CNN", 32, {96, 3, 32, {1, 2, 2, 2}, {16, 8}, 0.3}},
      {"44M-CNN", 32, {128, 2, 32, {1, 2, 2, 2}, {16, 8}, 0.3}},
      {"57M-CNN", 32, {128, 3, 32, {1, 2, 2, 2}, {16, 8}, 0.3}},
      {"57M-CNN-CelebA", 64, {96, 2, 32, {1, 2, 3, 4}, {32, 16, 8}, 0.1}},
      {"295M-CNN", 64, {192, 3, 64, {1, 2, 3, 4}, {32, 16, 8}, 0.1}},
  };
  return table;
}

ParamTable param_table() {
  std::vector<std::string> names{""};
  for (const Preset& preset : presets()) names.push_back(preset.name);
  return {
      text("preset", "", "a network of the paper: sets everything but learn_sigma").one_of(names),
      integer("model_channels", 64, "base width; levels are multiples of it").at_least(2),
      integer("num_res_blocks", 3, "residual blocks a level").at_least(1),
      integers("channel_mult", {1, 2, 2, 2}, "width of each level, in model_channels").at_least(1),
      integers("attention_resolutions", {16, 8}, "image sizes, in pixels, that have attention")
          .at_least(1),
      integer("num_head_channels", 32, "channels of an attention head").at_least(1),
      real("dropout", 0.3, "dropout in residual blocks").between(0, 0.99),
      flag("learn_sigma", true, "predict the variance as well"),
  };
}

Config preset_config(const Params& params, std::int64_t image_size) {
  const std::string& name = params.text("preset");
  const auto preset = std::find_if(presets().begin(), presets().end(),
                                   [&](const Preset& p) { return p.name == name; });
  if (preset->image_size != image_size) {
    throw ConfigError("preset \"" + name + "\" is for images of " +
                      std::to_string(preset->image_size) + " pixels, got " +
                      std::to_string(image_size) +
                      "; leave it out and give model_channels and so on");
  }
  for (const Param& param : param_table()) {
    if (param.name == "preset" || param.name == "learn_sigma") continue;
    if (params.values().at(param.name) == param.fallback) continue;
    throw ConfigError("preset \"" + name + "\" sets " + param.name + "; leave one of them out");
  }
  return preset->config;
}

std::string listed(const std::vector<std::int64_t>& numbers) {
  std::string text;
  for (const auto n : numbers) text += (text.empty() ? "" : ", ") + std::to_string(n);
  return text;
}

// Throws ConfigError for a network that cannot be.
void check(const Config& config, std::int64_t image_size) {
  const auto fail = [](const std::string& what) { throw ConfigError(what); };
  if (config.channel_mult.empty()) {
    fail("channel_mult is empty, expected one multiplier a level, such as [1, 2, 2]");
  }
  if (config.model_channels % 2 != 0) {
    fail("model_channels is " + std::to_string(config.model_channels) +
         ", expected an even number");
  }
  const std::size_t halvings = config.channel_mult.size() - 1;
  if (halvings > 30 || image_size % (std::int64_t{1} << halvings) != 0) {
    fail("channel_mult has " + std::to_string(halvings + 1) + " levels: the image size, " +
         std::to_string(image_size) + " pixels, cannot be halved " + std::to_string(halvings) +
         " times; give fewer levels");
  }
  std::vector<std::int64_t> sizes;
  for (std::size_t level = 0; level <= halvings; ++level) sizes.push_back(image_size >> level);
  std::vector<std::int64_t> attending{config.channel_mult.back()};  // the middle always does
  for (const auto resolution : config.attention_resolutions) {
    const auto level = std::find(sizes.begin(), sizes.end(), resolution);
    if (level == sizes.end()) {
      fail("attention_resolutions has " + std::to_string(resolution) +
           ", expected sizes of this network's levels: " + listed(sizes));
    }
    attending.push_back(config.channel_mult[static_cast<std::size_t>(level - sizes.begin())]);
  }
  for (const auto mult : config.channel_mult) {
    if (mult * config.model_channels % kGroups == 0) continue;
    fail("channel_mult " + std::to_string(mult) + " times model_channels " +
         std::to_string(config.model_channels) + " is " +
         std::to_string(mult * config.model_channels) + " channels, expected a multiple of the " +
         std::to_string(kGroups) + " groups of normalisation");
  }
  for (const auto mult : attending) {
    if (mult * config.model_channels % config.num_head_channels == 0) continue;
    fail("num_head_channels is " + std::to_string(config.num_head_channels) +
         ", expected a divisor of the " + std::to_string(mult * config.model_channels) +
         " channels of a level with attention");
  }
}

Config config_of(const Params& params, std::int64_t image_size) {
  if (!params.text("preset").empty()) return preset_config(params, image_size);
  const Config config{params.integer("model_channels"),    params.integer("num_res_blocks"),
                      params.integer("num_head_channels"), params.integers("channel_mult"),
                      params.integers("attention_resolutions"), params.real("dropout")};
  check(config, image_size);
  return config;
}

class AdmUnet final : public Denoiser {
 public:
  static ParamTable params() { return param_table(); }

  AdmUnet(const Params& params, const ImageSpec& spec)
      : config_(config_of(params, spec.size)), channels_(config_.model_channels) {
    const auto emb = 4 * channels_;
    auto time_embed = register_module("time_embed", std::make_shared<Layers>());
    time_in = numbered(*time_embed, 0, tnn::Linear(channels_, emb).ptr());
    numbered(*time_embed, 1, std::make_shared<Unnamed>());
    time_out = numbered(*time_embed, 2, tnn::Linear(emb, emb).ptr());

    auto input_blocks = register_module("input_blocks", std::make_shared<Layers>());
    auto middle = register_module("middle_block", std::make_shared<Block>());
    auto output_blocks = register_module("output_blocks", std::make_shared<Layers>());
    const auto& mult = config_.channel_mult;
    std::int64_t width = mult.front() * channels_, resolution = spec.size;
    std::vector<std::int64_t> skips{width};

    const auto res = [&](Block& block, std::int64_t in, std::int64_t out,
                         Resample resample = Resample::none) {
      block.add(std::make_shared<ResBlock>(in, out, emb, config_.dropout, resample));
    };
    const auto attend_here = [&](Block& block, std::int64_t at_width) {
      const auto& where = config_.attention_resolutions;
      if (std::find(where.begin(), where.end(), resolution) != where.end())
        block.add(std::make_shared<Attention>(at_width, config_.num_head_channels));
    };
    const auto new_block = [](tnn::Module& parent, std::vector<std::shared_ptr<Block>>& list) {
      list.push_back(numbered(parent, static_cast<int>(list.size()), std::make_shared<Block>()));
      return list.back();
    };

    new_block(*input_blocks, input_)->add(std::make_shared<Stem>(spec.channels, width));
    for (std::size_t level = 0; level < mult.size(); ++level) {
      for (std::int64_t i = 0; i < config_.num_res_blocks; ++i) {
        const auto block = new_block(*input_blocks, input_);
        const auto out = mult[level] * channels_;
        res(*block, width, out);
        attend_here(*block, width = out);
        skips.push_back(width);
      }
      if (level + 1 < mult.size()) {
        res(*new_block(*input_blocks, input_), width, width, Resample::down);
        skips.push_back(width);
        resolution /= 2;
      }
    }
    res(*middle, width, width);
    middle->add(std::make_shared<Attention>(width, config_.num_head_channels));
    res(*middle, width, width);
    middle_ = middle;
    for (std::size_t level = mult.size(); level-- > 0;) {
      for (std::int64_t i = 0; i <= config_.num_res_blocks; ++i) {
        const auto block = new_block(*output_blocks, output_);
        const auto out = mult[level] * channels_;
        res(*block, width + skips.back(), out);
        skips.pop_back();
        attend_here(*block, width = out);
        if (level > 0 && i == config_.num_res_blocks) {
          res(*block, width, width, Resample::up);
          resolution *= 2;
        }
      }
    }
    auto out = register_module("out", std::make_shared<Layers>());
    out_norm = numbered(*out, 0, norm(width).ptr());
    numbered(*out, 1, std::make_shared<Unnamed>());
    out_conv = numbered(
        *out, 2, zero_conv(width, spec.channels * (params.flag("learn_sigma") ? 2 : 1)).ptr());
  }

  Tensor forward(const Tensor& x_t, const Tensor& t) override {
    const auto time = time_out->forward(
        activated(time_in->forward(nn::timestep_embedding(t, channels_))));
    const auto emb = activated(time);  // every block's embedding layer begins with it
    Tensor h = x_t.contiguous(at::MemoryFormat::ChannelsLast);
    std::vector<Tensor> skips;
    for (const auto& block : input_) skips.push_back(h = block->forward(h, emb));
    h = middle_->forward(h, emb);
    for (const auto& block : output_) {
      h = block->forward(at::cat({h, skips.back()}, 1), emb);
      skips.pop_back();
    }
    return out_conv->forward(activated(out_norm->forward(h)));
  }

 private:
  Config config_;
  std::int64_t channels_;
  std::shared_ptr<tnn::LinearImpl> time_in, time_out;
  std::vector<std::shared_ptr<Block>> input_, output_;
  std::shared_ptr<Block> middle_;
  std::shared_ptr<tnn::GroupNormImpl> out_norm;
  std::shared_ptr<tnn::Conv2dImpl> out_conv;
};

}  // namespace

DKDM_STUDENT("adm-unet", "1", "ADM's UNet: the paper's CNN teachers and students", AdmUnet)
