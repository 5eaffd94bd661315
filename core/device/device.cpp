#include "dkdm/device.hpp"

#include <ATen/ATen.h>
#include <torch/nn/module.h>

namespace dkdm {

at::Device device_of(const torch::nn::Module& network) {
  // A frozen TorchScript module has what it learnt in buffers.
  for (const auto& tensors : {network.parameters(), network.buffers()})
    if (!tensors.empty()) return tensors.front().device();
  return at::kCPU;
}

at::Tensor sent_to(const at::Tensor& tensor, at::Device device) {
  if (tensor.device() == device) return tensor;
  // Memory is pinned for accelerators, and LibTorch's device without memory is none.
  if (!tensor.is_cpu() || device.is_meta()) return tensor.to(device);
  const at::Tensor pinned = tensor.is_pinned() ? tensor : tensor.pin_memory();
  return pinned.to(device, /*non_blocking=*/true);
}

}  // namespace dkdm
