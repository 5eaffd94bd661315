// Whether stages fit the memory of the device that is to carry them out.
#pragma once

#include <c10/core/Device.h>

#include <string>

#include "stages/stage.hpp"

namespace dkdm::run {

struct DeviceMemory {
  double bytes = 0;   // 0 = not known
  std::string owner;  // "cuda:0", "this machine"
  std::string about;  // "NVIDIA H200", "" = nothing to say
};
// Of the CPU: the machine's, or the limit of this process's control group where that is lower.
DKDM_API DeviceMemory memory_of(at::Device device);
// Of a device elsewhere, of which a person states it in units of 10^9 bytes.
DKDM_API DeviceMemory stated_memory(double gigabytes);

// "train dynamic needs 12.3 GB, cuda:0 has 8.00 GB (NVIDIA H200): lower train.batch or method.rho";
// "" where the stage fits, or where it is not known.
DKDM_API std::string shortfall(const stages::Stage& stage, const DeviceMemory& memory);

}  // namespace dkdm::run
