// The training step that random numbers are of, in work that an accelerator records once and does
// many times (device/graph.hpp).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "dkdm/error.hpp"

namespace dkdm::random {

// A step by its number; or, where defined, as the device has it, read anew each time that recorded
// work is done.
struct Step {
  std::uint32_t number = 0;
  at::Tensor on_device;  // int64 []
};

// While it lives, what layers draw on this thread is of the step in `on_device` (int64 []),
// whatever step they were seeded for. One at a time.
class DKDM_API StepOnDevice {
 public:
  explicit StepOnDevice(const at::Tensor& on_device);
  ~StepOnDevice();
  StepOnDevice(const StepOnDevice&) = delete;
  StepOnDevice& operator=(const StepOnDevice&) = delete;
};

// What a layer that was seeded for `number` draws of.
Step step_of_layer(std::uint32_t number);

}  // namespace dkdm::random
