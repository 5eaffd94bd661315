// What native_functions.yaml, LibTorch's list of its operators, says of CUDA.
#pragma once

#include <string>

namespace fake_device {

// Whether the operator ("aten::add.Tensor") leaves the check of its tensors' devices to itself,
// which lets CPU tensors of no dimension through. True for operators that the list does not have.
bool checks_devices_itself(const std::string& name);

}  // namespace fake_device
