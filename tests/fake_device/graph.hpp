// Recording of what the fake device is asked to do, and doing it again. Operators run while they
// are recorded, as they must to have shapes; a replay runs them on the same tensors.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

namespace fake_device {

bool recording();

// While work is recorded: refuses `what`, as CUDA does or as would go unnoticed there (a host's
// memory is read when a graph is replayed). Else nothing.
void refuse_in_recording(const std::string& what);

// While work is recorded: that it made `results`, and how to make them again; the returned tensors
// are copied over the results, which keep their memory. Else nothing.
void add_to_recording(std::vector<at::Tensor> results,
                      std::function<std::vector<at::Tensor>()> again);

}  // namespace fake_device
