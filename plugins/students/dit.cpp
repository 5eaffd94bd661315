// DiT (Peebles & Xie 2023) as in the authors' code, without classes: a transformer on patches whose
// blocks are modulated by the time embedding (adaLN-Zero). Names, order and shapes of the
// parameters are the reference's (its attention and MLP come from timm).
//
// Tokens are [N,T,D], T patches row by row.
#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>

#include <cmath>

#include "dkdm/nn.hpp"
#include "dkdm/plugin.hpp"
#include "image_sides.hpp"
#include "time_embedding.hpp"

namespace {

using namespace dkdm;
using at::Tensor;
namespace tnn = torch::nn;

constexpr std::int64_t kFrequencies = 256;  // width of the sinusoid of t

struct Layers : tnn::Module {};  // a name only

tnn::Linear linear(std::int64_t in, std::int64_t out) {
  tnn::Linear layer(in, out);
  const at::NoGradGuard no_grad;
  const double bound = std::sqrt(6.0 / static_cast<double>(in + out));  // Xavier, uniform
  layer->weight.uniform_(-bound, bound);
  layer->bias.zero_();
  return layer;
}

tnn::Linear zero_linear(std::int64_t in, std::int64_t out) {
  tnn::Linear layer(in, out);
  nn::zero_parameters(*layer);
  return layer;
}

// Registers `layer` as `parent`.`name`.`index`, the place that the reference's Sequential gives it.
tnn::Linear numbered(tnn::Module& parent, const std::string& name, int index, tnn::Linear layer) {
  const auto known = parent.named_children();
  const std::shared_ptr<tnn::Module> group =
      known.contains(name) ? known[name] : parent.register_module(name, std::make_shared<Layers>());
  group->register_module(std::to_string(index), layer);
  return layer;
}

// LN(x) (1 + scale) + shift; x [N,T,D], shift and scale [N,1,D].
Tensor modulated(const Tensor& x, const Tensor& shift, const Tensor& scale) {
  return at::addcmul(shift, at::layer_norm(x, {x.size(2)}, {}, {}, 1e-6), scale + 1);
}

struct Block final : tnn::Module {
  Block(std::int64_t width, std::int64_t heads, std::int64_t hidden) : heads_(heads) {
    const auto attn = register_module("attn", std::make_shared<Layers>());
    qkv = attn->register_module("qkv", linear(width, 3 * width));
    proj = attn->register_module("proj", linear(width, width));
    const auto mlp = register_module("mlp", std::make_shared<Layers>());
    fc1 = mlp->register_module("fc1", linear(width, hidden));
    fc2 = mlp->register_module("fc2", linear(hidden, width));
    modulation = numbered(*this, "adaLN_modulation", 1, zero_linear(width, 6 * width));
  }

  // c [N,D] is the SiLU of the time embedding, computed once for all blocks.
  Tensor forward(const Tensor& x, const Tensor& c) {
    const auto m = modulation->forward(c).unsqueeze(1).chunk(6, 2);
    const Tensor attended = nn::self_attention(qkv->forward(modulated(x, m[0], m[1])), heads_);
    const Tensor h = at::addcmul(x, m[2], proj->forward(attended));
    const Tensor mixed = at::gelu(fc1->forward(modulated(h, m[3], m[4])), "tanh");
    return at::addcmul(h, m[5], fc2->forward(mixed));
  }

 private:
  std::int64_t heads_;
  tnn::Linear qkv{nullptr}, proj{nullptr}, fc1{nullptr}, fc2{nullptr}, modulation{nullptr};
};

// Fixed code of the patches, f32 [1,T,width]: the first half tells the column, the second the row;
// each [sin, cos] of the index times 10000^(-k / (width/4)), in f64 as the reference.
Tensor position_table(std::int64_t width, const students::PatchGrid& grid) {
  const auto f64 = at::TensorOptions().dtype(at::kDouble);
  const std::int64_t quarter = width / 4;
  const Tensor omega = at::pow(10000.0, -(at::arange(quarter, f64) / quarter));
  const auto code = [&](std::int64_t count) {
    const Tensor phase = at::outer(at::arange(count, f64), omega);
    return at::cat({phase.sin(), phase.cos()}, 1);  // [count, width/2]
  };
  const Tensor column =
      code(grid.columns).unsqueeze(0).expand({grid.rows, grid.columns, 2 * quarter});
  const Tensor row = code(grid.rows).unsqueeze(1).expand({grid.rows, grid.columns, 2 * quarter});
  return at::cat({column, row}, 2).reshape({1, grid.tokens(), width}).to(at::kFloat);
}

struct Config {
  std::int64_t depth, hidden_size, num_heads;
};

// The sizes of Peebles & Xie; the number behind their slash is patch_size.
const std::vector<std::pair<std::string, Config>>& presets() {
  static const std::vector<std::pair<std::string, Config>> table{
      {"DiT-S", {12, 384, 6}},
      {"DiT-B", {12, 768, 12}},
      {"DiT-L", {24, 1024, 16}},
      {"DiT-XL", {28, 1152, 16}},
  };
  return table;
}

ParamTable param_table() {
  std::vector<std::string> names{""};
  for (const auto& preset : presets()) names.push_back(preset.first);
  return {
      text("preset", "", "a published size: sets depth, hidden_size and num_heads").one_of(names),
      integer("depth", 12, "blocks").between(1, 256),
      integer("hidden_size", 384, "width of a token").between(4, 16384),
      integer("num_heads", 6, "attention heads").between(1, 1024),
      integer("patch_size", 2, "pixels of a patch's side").between(1, 4096),
      real("mlp_ratio", 4, "width of the MLP, in hidden_size").between(0.1, 64),
      flag("learn_sigma", true, "predict the variance as well"),
  };
}

// Throws ConfigError for a network that cannot be.
Config config_of(const Params& params) {
  if (const std::string& name = params.text("preset"); !name.empty()) {
    for (const Param& param : param_table()) {
      const bool set =
          param.name == "depth" || param.name == "hidden_size" || param.name == "num_heads";
      if (!set || params.values().at(param.name) == param.default_value) continue;
      throw ConfigError("preset \"" + name + "\" sets " + param.name + "; leave one of them out");
    }
    return std::find_if(presets().begin(), presets().end(),
                        [&](const auto& preset) { return preset.first == name; })
        ->second;
  }
  const Config config{params.integer("depth"), params.integer("hidden_size"),
                      params.integer("num_heads")};
  if (config.hidden_size % 4 != 0) {
    throw ConfigError("hidden_size is " + std::to_string(config.hidden_size) +
                      ", expected a multiple of 4 (sines and cosines of row and column)");
  }
  if (config.hidden_size % config.num_heads != 0) {
    throw ConfigError("num_heads is " + std::to_string(config.num_heads) +
                      ", expected a divisor of hidden_size, " + std::to_string(config.hidden_size));
  }
  return config;
}

class Dit final : public Denoiser {
 public:
  static ParamTable params() { return param_table(); }

  Dit(const Params& params, const SampleShape& shape)
      : grid_(students::patch_grid(shape, params.integer("patch_size"))) {
    const auto patch = grid_.patch;
    const Config config = config_of(params);
    const std::int64_t width = config.hidden_size;
    out_channels_ = shape.channels * (params.flag("learn_sigma") ? 2 : 1);
    const auto hidden =
        static_cast<std::int64_t>(static_cast<double>(width) * params.real("mlp_ratio"));

    pos_embed_ = register_parameter("pos_embed", position_table(width, grid_),
                                    /*requires_grad=*/false);
    const auto x_embedder = register_module("x_embedder", std::make_shared<Layers>());
    patches_ = x_embedder->register_module(
        "proj", tnn::Conv2d(tnn::Conv2dOptions(shape.channels, width, patch).stride(patch)));
    const auto t_embedder = register_module("t_embedder", std::make_shared<Layers>());
    time_in_ = numbered(*t_embedder, "mlp", 0, linear(kFrequencies, width));
    time_out_ = numbered(*t_embedder, "mlp", 2, linear(width, width));
    blocks_ = register_module("blocks", tnn::ModuleList());
    for (std::int64_t i = 0; i < config.depth; ++i) {
      blocks_->push_back(std::make_shared<Block>(width, config.num_heads, hidden));
    }
    const auto final_layer = register_module("final_layer", std::make_shared<Layers>());
    out_ =
        final_layer->register_module("linear", zero_linear(width, patch * patch * out_channels_));
    out_modulation_ = numbered(*final_layer, "adaLN_modulation", 1, zero_linear(width, 2 * width));

    const at::NoGradGuard no_grad;
    const double bound =
        std::sqrt(6.0 / static_cast<double>(width + shape.channels * patch * patch));
    patches_->weight.uniform_(-bound, bound);
    patches_->bias.zero_();
    time_in_->weight.normal_(0, 0.02);
    time_out_->weight.normal_(0, 0.02);
  }

  Tensor forward(const Tensor& x_t, const Tensor& t) override {
    const std::int64_t n = x_t.size(0);
    const Tensor patches = patches_->forward(x_t).permute({0, 2, 3, 1});
    Tensor x = patches.reshape({n, grid_.tokens(), -1}) + pos_embed_;
    const Tensor c = students::time_embedding(nn::timestep_embedding(t, kFrequencies),
                                              x_t.scalar_type(), *time_in_, *time_out_);
    for (std::size_t i = 0; i < blocks_->size(); ++i) {
      x = blocks_[i]->as<Block>()->forward(x, c);
      feature("block", i, x);
    }
    const nn::FullPrecision full;
    const auto m = out_modulation_->forward(c).unsqueeze(1).chunk(2, 2);
    return grid_.image(out_->forward(modulated(nn::in_full(x), m[0], m[1])));
  }

 private:
  students::PatchGrid grid_;
  std::int64_t out_channels_ = 0;
  Tensor pos_embed_;
  tnn::Conv2d patches_{nullptr};
  tnn::Linear time_in_{nullptr}, time_out_{nullptr}, out_{nullptr}, out_modulation_{nullptr};
  tnn::ModuleList blocks_{nullptr};
};

}  // namespace

DKDM_STUDENT("dit", "2", "DiT: the paper's transformer (ViT) student", Dit)
