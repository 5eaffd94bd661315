#include "random/step.hpp"

namespace dkdm::random {
namespace {
thread_local at::Tensor now;
}

StepOnDevice::StepOnDevice(const at::Tensor& on_device) { now = on_device; }
StepOnDevice::~StepOnDevice() { now = at::Tensor(); }

Step step_of_layer(std::uint32_t number) { return {number, now}; }

}  // namespace dkdm::random
