// my-plugin: residual blocks of 3 x 3 convolutions at full resolution, the time step added inside
// each. About the smallest network that learns to denoise; a starting point to be replaced.
#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>

#include "dkdm/boundary.hpp"
#include "dkdm/denoiser.hpp"
#include "dkdm/nn.hpp"

namespace {

using at::Tensor;
namespace tnn = torch::nn;

tnn::Conv2d convolution(std::int64_t in, std::int64_t out) {
  return tnn::Conv2d(tnn::Conv2dOptions(in, out, 3).padding(1));
}

struct ResidualBlock final : tnn::Module {
  explicit ResidualBlock(std::int64_t width) {
    norm = register_module("norm", std::make_shared<dkdm::nn::GroupNorm>(8, width));
    first = register_module("first", convolution(width, width));
    shift = register_module("shift", tnn::Linear(width, width));
    second = register_module("second", convolution(width, width));
  }

  // x [N,W,H,W], time [N,W] -> [N,W,H,W].
  Tensor forward(const Tensor& x, const Tensor& time) {
    const Tensor h = first(at::silu(norm->forward(x))) + shift(time).unsqueeze(2).unsqueeze(3);
    return x + second(at::silu(h));
  }

  std::shared_ptr<dkdm::nn::GroupNorm> norm;
  tnn::Conv2d first{nullptr}, second{nullptr};
  tnn::Linear shift{nullptr};
};

class MyPlugin final : public dkdm::Denoiser {
 public:
  static dkdm::ParamTable params() {
    return {dkdm::integer("width", 32, "channels, a multiple of 8").between(8, 1024),
            dkdm::integer("depth", 4, "residual blocks").between(1, 64)};
  }

  MyPlugin(const dkdm::Params& params, const dkdm::SampleShape& shape)
      : width_(params.integer("width")) {
    if (width_ % 8 != 0)
      throw dkdm::ConfigError("width = " + std::to_string(width_), "expected a multiple of 8");
    in_ = register_module("in", convolution(shape.channels, width_));
    time_ = register_module("time", tnn::Linear(width_, width_));
    blocks_ = register_module("blocks", tnn::ModuleList());
    for (std::int64_t i = 0; i < params.integer("depth"); ++i)
      blocks_->push_back(std::make_shared<ResidualBlock>(width_));
    out_ = register_module("out", convolution(width_, 2 * shape.channels));
  }

  // x_t [N,C,H,W], t [N] -> [N,2C,H,W]: the noise in x_t, then the variance fraction.
  Tensor forward(const Tensor& x_t, const Tensor& t) override {
    const Tensor time = at::silu(time_(dkdm::nn::timestep_embedding(t, width_)));
    Tensor h = in_(x_t);
    for (const auto& block : *blocks_) h = block->as<ResidualBlock>()->forward(h, time);
    return out_(at::silu(h));
  }

 private:
  std::int64_t width_;
  tnn::Conv2d in_{nullptr}, out_{nullptr};
  tnn::Linear time_{nullptr};
  tnn::ModuleList blocks_{nullptr};
};

}  // namespace

DKDM_STUDENT("my-plugin", "1", "residual convolutions at full resolution", MyPlugin)
