// Inception-v3 as FID uses it: the TensorFlow graph of 2015-12-05, 1008 classes, its average pools
// without the padding, and a maximum pool in the last block (spec: pytorch-fid's fid_inception_v3).
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <string>

namespace dkdm::metrics {

// Weights by pytorch-fid's key layout: "Mixed_5b.branch1x1.conv.weight", "fc.bias".
using StateDict = std::map<std::string, at::Tensor>;

// On the network's device.
struct InceptionFeatures {
  at::Tensor pooled;   // f32 [n,2048]: Mixed_7c averaged over space (pool_3), for FID
  at::Tensor spatial;  // f32 [n,2023]: Mixed_6d.branch1x1, channels 0…6, in (h,w,c) order, for sFID
  at::Tensor logits;   // f32 [n,1008]: fc without its bias, for IS
};

class Inception {
 public:
  static constexpr std::int64_t kImageSize = 299;
  static constexpr std::int64_t kPooled = 2048, kClasses = 1008;
  static constexpr std::int64_t kSpatialChannels = 7, kSpatial = kSpatialChannels * 17 * 17;

  // Copies the weights, batch norms folded into the convolutions in f64. Throws
  // std::invalid_argument naming the first tensor that is missing, unexpected (the counters
  // num_batches_tracked are allowed), misshapen, or not finite.
  explicit Inception(const StateDict& state_dict, at::Device device = at::kCPU);
  ~Inception();
  Inception(Inception&&) noexcept;
  Inception& operator=(Inception&&) noexcept;

  // images f32 [n,3,299,299] on the network's device, resized and scaled (preprocess.hpp);
  // channels-last saves a copy. An image's features do not depend on the batch it comes in, but for
  // rounding. The arithmetic is IEEE f32 on every device, whatever TF32 or autocast the process has
  // chosen; an accelerator is not waited for, and takes all images at once. May be called from
  // several threads at once. Throws std::invalid_argument for another shape, dtype or device.
  InceptionFeatures operator()(const at::Tensor& images) const;

 private:
  struct Network;
  std::unique_ptr<const Network> network_;
};

}  // namespace dkdm::metrics
