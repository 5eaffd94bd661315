// The feature network of the evaluator `classifier` and its initial weights.
#pragma once

#include <ATen/ATen.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>

#include <cmath>
#include <string>
#include <vector>

#include "dkdm/image.hpp"
#include "dkdm/io.hpp"
#include "dkdm/random.hpp"
#include "exact_floats.hpp"

namespace dkdm::classifier {

using at::Tensor;
namespace tnn = torch::nn;

constexpr std::int64_t kMapSize = 4;          // the last map's side is at most this
constexpr std::int64_t kSpatialChannels = 7;  // of the map that sFID sees

struct Features {
  Tensor pooled;         // f32 [n,features]: the last convolution's channels, averaged over space
  Tensor spatial;        // f32 [n,7hw]: the map before it, first 7 channels, flattened (h,w,c)
  Tensor probabilities;  // f64 [n,classes]
};

// Pairs of 3 x 3 convolutions, the first of a pair with stride 2, until the map is at most 4 x 4,
// each with batch normalisation and ReLU; mean over space; linear. `width` channels, twice that
// after the first pair, `features` out of the last convolution.
class Network final : public tnn::Module {
 public:
  Network(const ImageSpec& spec, std::int64_t width, std::int64_t features, std::int64_t classes) {
    std::int64_t in = spec.channels, out = width;
    for (std::int64_t size = std::max(spec.height, spec.width); size > kMapSize;
         in = out, out = 2 * width) {
      size = (size + 1) / 2;
      add(in, out, 2);
      add(out, size > kMapSize ? out : features, 1);
    }
    head_ = register_module("head", tnn::Linear(features, classes));
    for (auto& parameter : parameters())
      if (parameter.dim() == 4)
        parameter.set_data(parameter.detach().contiguous(at::MemoryFormat::ChannelsLast));
  }

  // Places of the last map: its height times its width.
  static std::int64_t map_places(const ImageSpec& spec) {
    std::int64_t height = spec.height, width = spec.width;
    while (std::max(height, width) > kMapSize) {
      height = (height + 1) / 2;
      width = (width + 1) / 2;
    }
    return height * width;
  }

  // images uint8 [n,C,H,W] on the network's device -> logits [n,classes].
  Tensor logits(const Tensor& images) { return head_->forward(pooled(spatial_map(images))); }

  // The same images, in evaluation mode.
  Features features(const Tensor& images) {
    at::NoGradGuard no_grad;
    const evaluators::ExactFloats exact(images.device());
    const Tensor map = spatial_map(images);
    const Tensor pooled = this->pooled(map);
    return {pooled, map.slice(1, 0, kSpatialChannels).permute({0, 2, 3, 1}).flatten(1),
            at::softmax(head_->forward(pooled).to(at::kDouble), 1)};
  }

 private:
  struct Layer {
    tnn::Conv2d convolution;
    tnn::BatchNorm2d normalisation;
    Tensor forward(const Tensor& x) {
      return at::relu(normalisation->forward(convolution->forward(x)));
    }
    Layer(std::int64_t in, std::int64_t out, std::int64_t stride)
        : convolution(tnn::Conv2dOptions(in, out, 3).stride(stride).padding(1).bias(false)),
          normalisation(tnn::BatchNorm2dOptions(out)) {}
  };

  void add(std::int64_t in, std::int64_t out, std::int64_t stride) {
    const std::string number = std::to_string(layers_.size());
    auto& layer = layers_.emplace_back(in, out, stride);
    register_module("conv" + number, layer.convolution);
    register_module("norm" + number, layer.normalisation);
  }
  Tensor spatial_map(const Tensor& images) {
    Tensor x = to_unit_range(images).contiguous(at::MemoryFormat::ChannelsLast);
    for (std::size_t i = 0; i + 1 < layers_.size(); ++i) x = layers_[i].forward(x);
    return x;
  }
  Tensor pooled(const Tensor& map) { return layers_.back().forward(map).mean({2, 3}); }

  std::vector<Layer> layers_;
  tnn::Linear head_{nullptr};
};

// He et al. 2015, from our own random numbers: the default generator plays no part.
inline void initialise(Network& network, std::uint64_t seed) {
  at::NoGradGuard no_grad;
  const Random random(seed, Stream::initialise);
  std::uint32_t number = 0;
  for (auto& entry : network.named_parameters()) {
    Tensor& parameter = entry.value();
    if (parameter.dim() > 1) {
      parameter.copy_(random.normal(number, 0, 1, parameter.sizes()).squeeze(0) *
                      std::sqrt(2.0 / double(parameter[0].numel())));
    } else if (entry.key() == "head.bias") {
      parameter.zero_();
    }  // batch normalisation begins as the identity
    ++number;
  }
}

// Weights and the running statistics of batch normalisation.
inline io::TensorMap state_of(const Network& network) {
  io::TensorMap state;
  for (const auto& entry : network.named_parameters()) state[entry.key()] = entry.value().detach();
  for (const auto& entry : network.named_buffers()) state[entry.key()] = entry.value();
  return state;
}

}  // namespace dkdm::classifier
