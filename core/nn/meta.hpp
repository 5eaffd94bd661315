// Networks on LibTorch's meta device, where a tensor has a shape and a type and no memory: what a
// forward would hold, and whether its shapes fit, of networks and batches that fit no machine here.
#pragma once

#include <torch/nn/module.h>

#include <functional>
#include <vector>

#include "dkdm/error.hpp"
#include "nn/memory_limit.hpp"

namespace dkdm::nn {

// What LibTorch has for that device in Python alone, such as convolutions. Once a process; what
// follows calls it.
DKDM_API void teach_meta_device();

// Parameters and buffers of `network` are there while it lives, as the same objects, and have their
// memory again afterwards. (Module::to refuses this device.)
class DKDM_API OnMeta {
 public:
  explicit OnMeta(const torch::nn::Module& network);
  ~OnMeta();
  OnMeta(const OnMeta&) = delete;
  OnMeta& operator=(const OnMeta&) = delete;

 private:
  std::vector<at::Tensor> tensors_, before_;
};

// The same for good.
DKDM_API void to_meta(const torch::nn::Module& network);

// Runs `work`, in which writes to large tensors of this thread are left out: memory for a network's
// weights is asked for and never touched.
DKDM_API void without_writes(const std::function<void()>& work);

// The network that `make` makes, there for good; larger than this machine's memory if need be.
template <class Make>
auto made_on_meta(const Make& make) {
  decltype(make()) network;
  without_writes([&] {
    network = make();
    to_meta(*network);
  });
  return network;
}

// Bytes of the meta tensors that this thread makes in `work`, as within_memory counts those of the
// CPU. Where autocast is on for the CPU, meta tensors are cast as that would cast the CPU's: their
// device has none.
DKDM_API Allocated counted_on_meta(const std::function<void()>& work);

}  // namespace dkdm::nn
