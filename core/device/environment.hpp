// This machine with the device that networks compute on, as a run's record has it.
#pragma once

#include <c10/core/Device.h>

#include "dkdm/error.hpp"
#include "record/records.hpp"

namespace dkdm::device {

// `gpu` is the device's name where it has one. Looks at the machine once in a process.
DKDM_API record::EnvironmentRecord environment(at::Device device);

}  // namespace dkdm::device
