// Where networks compute: the host chooses the device (Host::device), plugins follow it.
#pragma once

#include <ATen/core/Tensor.h>

#include "dkdm/error.hpp"

namespace torch::nn {
class Module;
}

namespace dkdm {

// That of a network's parameters, else of its buffers; the CPU where it has neither.
DKDM_API at::Device device_of(const torch::nn::Module& network);

// `tensor` on `device`, the same strides. What goes from the CPU to an accelerator goes through
// pinned memory, and the host does not wait for it.
DKDM_API at::Tensor sent_to(const at::Tensor& tensor, at::Device device);

}  // namespace dkdm
