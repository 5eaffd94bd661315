#include "dkdm/device.hpp"

#include <ATen/ATen.h>
#include <torch/nn/module.h>

namespace dkdm {

at::Device device_of(const torch::nn::Module& network) {
  const auto parameters = network.parameters();
  return parameters.empty() ? at::Device(at::kCPU) : parameters.front().device();
}

at::Tensor sent_to(const at::Tensor& tensor, at::Device device) {
  if (tensor.device() == device) return tensor;
  if (!tensor.is_cpu()) return tensor.to(device);
  const at::Tensor pinned = tensor.is_pinned() ? tensor : tensor.pin_memory();
  return pinned.to(device, /*non_blocking=*/true);
}

}  // namespace dkdm
