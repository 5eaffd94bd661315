// MLP-Mixer (Tolstikhin et al. 2021) as a denoiser: patches, then blocks of two MLPs, one over the
// tokens and one over the channels; no convolution but the patches', no attention. Block names and
// the order of their parameters are timm's; GELU is the tanh form of the authors' code. Defaults
// are the paper's ratios (token MLP half, channel MLP four times the width) at DiT-S's width and
// depth. Adapted: the classifier's pooling and head give way to a linear layer on each token, and
// the time modulates every LayerNorm, LN(x) (1 + scale) + shift (Peebles & Xie 2023). The
// modulations and the head start at zero, so a fresh network is the plain Mixer below a head that
// says zero.
//
// Tokens are [N,T,D], T = (size / patch_size)^2 patches row by row. The MLP over tokens fixes T: a
// network is for images of one size.
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>

#include <cmath>

#include "dkdm/nn.hpp"
#include "dkdm/plugin.hpp"
#include "image_sides.hpp"
#include "time_embedding.hpp"

namespace {

using namespace dkdm;
using at::Tensor;
namespace tnn = torch::nn;

struct Layers : tnn::Module {};  // a name only

// Weights of variance 1 / in, bias 0: the authors' initialisation.
tnn::Linear linear(std::int64_t in, std::int64_t out) {
  tnn::Linear layer(in, out);
  const at::NoGradGuard no_grad;
  layer->weight.normal_(0, 1 / std::sqrt(static_cast<double>(in)));
  layer->bias.zero_();
  return layer;
}

tnn::Linear zero_linear(std::int64_t in, std::int64_t out) {
  tnn::Linear layer(in, out);
  nn::zero_parameters(*layer);
  return layer;
}

tnn::LayerNorm norm(std::int64_t width) {
  return tnn::LayerNorm(tnn::LayerNormOptions({width}).eps(1e-6));
}

// h [N,T,D], shift and scale [N,1,D].
Tensor modulated(const Tensor& h, const Tensor& shift, const Tensor& scale) {
  return at::addcmul(shift, h, scale + 1);
}

struct Mlp final : tnn::Module {
  Mlp(std::int64_t width, std::int64_t hidden, double dropout) {
    fc1 = register_module("fc1", linear(width, hidden));
    drop = register_module("drop", std::make_shared<nn::Dropout>(dropout));
    fc2 = register_module("fc2", linear(hidden, width));
  }
  Tensor forward(const Tensor& x) {
    return fc2->forward(drop->forward(at::gelu(fc1->forward(x), "tanh")));
  }

 private:
  tnn::Linear fc1{nullptr}, fc2{nullptr};
  std::shared_ptr<nn::Dropout> drop;
};

struct Sizes {
  std::int64_t tokens, width, token_hidden, channel_hidden;
  double dropout;
};

struct Block final : tnn::Module {
  explicit Block(const Sizes& sizes) {
    norm1 = register_module("norm1", norm(sizes.width));
    mlp_tokens = register_module(
        "mlp_tokens", std::make_shared<Mlp>(sizes.tokens, sizes.token_hidden, sizes.dropout));
    norm2 = register_module("norm2", norm(sizes.width));
    mlp_channels = register_module(
        "mlp_channels", std::make_shared<Mlp>(sizes.width, sizes.channel_hidden, sizes.dropout));
  }

  // m [N,1,4D]: shift and scale of both norms.
  Tensor forward(const Tensor& x, const Tensor& m) {
    const auto part = m.chunk(4, 2);
    const Tensor across = modulated(norm1->forward(x), part[0], part[1]).transpose(1, 2);
    const Tensor h = x + mlp_tokens->forward(across).transpose(1, 2);
    return h + mlp_channels->forward(modulated(norm2->forward(h), part[2], part[3]));
  }

 private:
  tnn::LayerNorm norm1{nullptr}, norm2{nullptr};
  std::shared_ptr<Mlp> mlp_tokens, mlp_channels;
};

class MlpMixer final : public Denoiser {
 public:
  static ParamTable params() {
    return {
        integer("patch_size", 2, "pixels of a patch's side").between(1, 4096),
        integer("num_blocks", 12, "mixer blocks").between(1, 256),
        integer("hidden_dim", 384, "width of a token; even").between(2, 16384),
        integer("tokens_mlp_dim", 192, "width of the MLP over tokens").between(1, 65536),
        integer("channels_mlp_dim", 1536, "width of the MLP over channels").between(1, 65536),
        real("dropout", 0, "between the layers of the MLPs").between(0, 0.999),
        flag("learn_sigma", true, "predict the variance as well"),
    };
  }

  MlpMixer(const Params& params, const SampleShape& shape)
      : grid_(students::patch_grid(shape, params.integer("patch_size"))),
        width_(params.integer("hidden_dim")),
        out_channels_(shape.channels * (params.flag("learn_sigma") ? 2 : 1)) {
    if (width_ % 2 != 0) {
      throw ConfigError("hidden_dim is " + std::to_string(width_) +
                        ", expected an even number (sines and cosines of the time)");
    }
    const auto patch = grid_.patch;
    const auto depth = params.integer("num_blocks");
    const Sizes sizes{grid_.tokens(), width_, params.integer("tokens_mlp_dim"),
                      params.integer("channels_mlp_dim"), params.real("dropout")};

    const auto stem = register_module("stem", std::make_shared<Layers>());
    stem_ = stem->register_module(
        "proj", tnn::Conv2d(tnn::Conv2dOptions(shape.channels, width_, patch).stride(patch)));
    const auto blocks = register_module("blocks", std::make_shared<Layers>());
    for (std::int64_t i = 0; i < depth; ++i)
      blocks_.push_back(blocks->register_module(std::to_string(i), std::make_shared<Block>(sizes)));
    norm_ = register_module("norm", norm(width_));
    head_ = register_module("head", zero_linear(width_, patch * patch * out_channels_));

    time_in_ = register_module("time_in", linear(width_, width_));
    time_out_ = register_module("time_out", linear(width_, width_));
    const auto modulation = register_module("modulation", std::make_shared<Layers>());
    for (std::int64_t i = 0; i <= depth; ++i)  // the last is the final norm's
      modulation_.push_back(modulation->register_module(
          std::to_string(i), zero_linear(width_, (i < depth ? 4 : 2) * width_)));
  }

  Tensor forward(const Tensor& x_t, const Tensor& t) override {
    const std::int64_t n = x_t.size(0);
    const Tensor time = students::time_embedding(nn::timestep_embedding(t, width_),
                                                 x_t.scalar_type(), *time_in_, *time_out_);
    Tensor x = stem_->forward(x_t).permute({0, 2, 3, 1}).reshape({n, grid_.tokens(), width_});
    for (std::size_t i = 0; i < blocks_.size(); ++i) {
      x = blocks_[i]->forward(x, modulation_[i]->forward(time).unsqueeze(1));
      feature("block", i, x);
    }
    const nn::FullPrecision full;
    const auto last = modulation_.back()->forward(time).unsqueeze(1).chunk(2, 2);
    return grid_.image(head_->forward(modulated(norm_->forward(nn::in_full(x)), last[0], last[1])));
  }

 private:
  students::PatchGrid grid_;
  std::int64_t width_, out_channels_;
  tnn::Conv2d stem_{nullptr};
  std::vector<std::shared_ptr<Block>> blocks_;
  tnn::LayerNorm norm_{nullptr};
  tnn::Linear head_{nullptr}, time_in_{nullptr}, time_out_{nullptr};
  std::vector<tnn::Linear> modulation_;
};

}  // namespace

DKDM_STUDENT("mlp-mixer", "2", "MLP-Mixer: MLPs over tokens and channels alone", MlpMixer)
