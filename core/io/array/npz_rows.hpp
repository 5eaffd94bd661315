// An npz of one array that is larger than memory.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <functional>
#include <string>

#include "dkdm/error.hpp"

namespace dkdm::io {

// Array `key`, uint8 of `sizes`, as write_npz writes it. `each` hands its rows, contiguous, to its argument in order,
// some at a time, and is called twice. Throws StoreError as write_npz does.
DKDM_API void write_npz_rows(const std::filesystem::path& file, const std::string& key, at::IntArrayRef sizes,
                    const std::function<void(const std::function<void(const at::Tensor&)>&)>& each);

}  // namespace dkdm::io
