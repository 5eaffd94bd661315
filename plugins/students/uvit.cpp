// U-ViT (Bao et al. 2023, "All are Worth Words"), unconditional: a transformer whose tokens are the
// time and the patches, with long skip connections between its two halves (concatenation and a
// linear layer) and a last 3 x 3 convolution over the image. Defaults are U-ViT-S for CIFAR10;
// names, order and shapes of the parameters are those of the authors' code. Adapted: a head of 2C
// channels, eps and v, where the variance is learned.
//
// Tokens are [N,1+T,D]: the time, then T patches row by row.
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>

#include "dkdm/nn.hpp"
#include "dkdm/plugin.hpp"
#include "image_sides.hpp"

namespace {

using namespace dkdm;
using at::Tensor;
namespace tnn = torch::nn;

constexpr double kSpread = 0.02;  // of the initial weights

struct Layers : tnn::Module {};  // a name only

// Weights normal with kSpread (the authors cut them at ±2, a hundred times as far), bias 0.
tnn::Linear linear(std::int64_t in, std::int64_t out, bool bias = true) {
  tnn::Linear layer(tnn::LinearOptions(in, out).bias(bias));
  const at::NoGradGuard no_grad;
  layer->weight.normal_(0, kSpread);
  if (bias) layer->bias.zero_();
  return layer;
}

tnn::LayerNorm norm(std::int64_t width) { return tnn::LayerNorm(tnn::LayerNormOptions({width})); }

struct BlockOptions {
  std::int64_t width, heads, hidden;
  bool qkv_bias;
};

struct Block final : tnn::Module {
  Block(const BlockOptions& options, bool long_skip) : heads_(options.heads) {
    const std::int64_t width = options.width;
    norm1 = register_module("norm1", norm(width));
    const auto attn = register_module("attn", std::make_shared<Layers>());
    qkv = attn->register_module("qkv", linear(width, 3 * width, options.qkv_bias));
    proj = attn->register_module("proj", linear(width, width));
    norm2 = register_module("norm2", norm(width));
    const auto mlp = register_module("mlp", std::make_shared<Layers>());
    fc1 = mlp->register_module("fc1", linear(width, options.hidden));
    fc2 = mlp->register_module("fc2", linear(options.hidden, width));
    if (long_skip) skip_linear = register_module("skip_linear", linear(2 * width, width));
  }

  // `skip` is the output of this block's partner in the first half; unused without long skips.
  Tensor forward(const Tensor& x, const Tensor& skip) {
    Tensor h = skip_linear ? skip_linear->forward(at::cat({x, skip}, 2)) : x;
    h = h + proj->forward(nn::self_attention(qkv->forward(norm1->forward(h)), heads_));
    return h + fc2->forward(at::gelu(fc1->forward(norm2->forward(h))));
  }

 private:
  std::int64_t heads_;
  tnn::LayerNorm norm1{nullptr}, norm2{nullptr};
  tnn::Linear qkv{nullptr}, proj{nullptr}, fc1{nullptr}, fc2{nullptr}, skip_linear{nullptr};
};

// Throws ConfigError for a network that cannot be.
void check(const Params& params) {
  const auto need = [&](const std::string& name, bool good, const std::string& expected) {
    if (good) return;
    throw ConfigError(name + " is " + std::to_string(params.integer(name)) + ", expected " +
                      expected);
  };
  const auto width = params.integer("embed_dim");
  need("embed_dim", width % 2 == 0, "an even number (sines and cosines of the time)");
  need("num_heads", width % params.integer("num_heads") == 0,
       "a divisor of embed_dim, " + std::to_string(width));
  need("depth", params.integer("depth") % 2 == 0,
       "an even number: as many blocks before the middle one as after it");
}

class Uvit final : public Denoiser {
 public:
  static ParamTable params() {
    return {
        integer("patch_size", 2, "pixels of a patch's side").between(1, 4096),
        integer("embed_dim", 512, "width of a token").between(2, 16384),
        integer("depth", 12, "blocks besides the middle one; even").between(2, 256),
        integer("num_heads", 8, "attention heads").between(1, 1024),
        real("mlp_ratio", 4, "width of the MLP, in embed_dim").between(0.1, 64),
        flag("qkv_bias", false, "biases in the attention's first layer"),
        flag("mlp_time_embed", false,
             "two linear layers between the time's sinusoid and its token"),
        flag("long_skips", true, "connect the blocks of the two halves"),
        flag("final_conv", true, "a 3 x 3 convolution over the image at the end"),
        flag("learn_sigma", true, "predict the variance as well"),
    };
  }

  Uvit(const Params& params, const SampleShape& shape)
      : grid_(students::patch_grid(shape, params.integer("patch_size"))),
        width_(params.integer("embed_dim")),
        out_channels_(shape.channels * (params.flag("learn_sigma") ? 2 : 1)) {
    check(params);
    const auto patch = grid_.patch;
    const auto half = params.integer("depth") / 2;
    const BlockOptions options{
        width_, params.integer("num_heads"),
        static_cast<std::int64_t>(static_cast<double>(width_) * params.real("mlp_ratio")),
        params.flag("qkv_bias")};

    pos_embed_ = register_parameter("pos_embed", at::empty({1, 1 + grid_.tokens(), width_}));
    {
      const at::NoGradGuard no_grad;
      pos_embed_.normal_(0, kSpread);
    }
    const auto patch_embed = register_module("patch_embed", std::make_shared<Layers>());
    patches_ = patch_embed->register_module(
        "proj", tnn::Conv2d(tnn::Conv2dOptions(shape.channels, width_, patch).stride(patch)));
    if (params.flag("mlp_time_embed")) {
      const auto time_embed = register_module("time_embed", std::make_shared<Layers>());
      time_in_ = time_embed->register_module("0", linear(width_, 4 * width_));
      time_out_ = time_embed->register_module("2", linear(4 * width_, width_));
    }
    const auto in_blocks = register_module("in_blocks", std::make_shared<Layers>());
    for (std::int64_t i = 0; i < half; ++i)
      in_.push_back(
          in_blocks->register_module(std::to_string(i), std::make_shared<Block>(options, false)));
    mid_ = register_module("mid_block", std::make_shared<Block>(options, false));
    const auto out_blocks = register_module("out_blocks", std::make_shared<Layers>());
    for (std::int64_t i = 0; i < half; ++i)
      out_.push_back(out_blocks->register_module(
          std::to_string(i), std::make_shared<Block>(options, params.flag("long_skips"))));
    norm_ = register_module("norm", norm(width_));
    pred_ = register_module("decoder_pred", linear(width_, patch * patch * out_channels_));
    if (params.flag("final_conv"))
      final_ = register_module(
          "final_layer",
          tnn::Conv2d(tnn::Conv2dOptions(out_channels_, out_channels_, 3).padding(1)));
  }

  Tensor forward(const Tensor& x_t, const Tensor& t) override {
    const std::int64_t n = x_t.size(0), tokens = grid_.tokens();
    const Tensor patches =
        patches_->forward(x_t).permute({0, 2, 3, 1}).reshape({n, tokens, width_});
    const Tensor time = embedding(t, x_t.scalar_type());
    Tensor x = at::cat({time.unsqueeze(1), patches}, 1) + pos_embed_;
    std::vector<Tensor> skips;
    std::size_t number = 0;  // of the block; the features begin with the time's token
    for (const auto& block : in_) {
      skips.push_back(x = block->forward(x, {}));
      feature("block", number++, x);
    }
    feature("block", number++, x = mid_->forward(x, {}));
    for (const auto& block : out_) {
      x = block->forward(x, skips.back());
      skips.pop_back();
      feature("block", number++, x);
    }
    const nn::FullPrecision full;
    x = nn::in_full(x.narrow(1, 1, tokens));
    const Tensor image = grid_.image(pred_->forward(norm_->forward(x)));
    return final_ ? final_->forward(image) : image;
  }

 private:
  Tensor embedding(const Tensor& t, at::ScalarType type) {
    const nn::FullPrecision full;
    const Tensor time = nn::timestep_embedding(t, width_).to(type);
    return time_in_ ? time_out_->forward(at::silu(time_in_->forward(time))) : time;
  }

  students::PatchGrid grid_;
  std::int64_t width_, out_channels_;
  Tensor pos_embed_;
  tnn::Conv2d patches_{nullptr}, final_{nullptr};
  tnn::Linear time_in_{nullptr}, time_out_{nullptr}, pred_{nullptr};
  tnn::LayerNorm norm_{nullptr};
  std::vector<std::shared_ptr<Block>> in_, out_;
  std::shared_ptr<Block> mid_;
};

}  // namespace

DKDM_STUDENT("uvit", "2", "U-ViT: a transformer with long skip connections", Uvit)
