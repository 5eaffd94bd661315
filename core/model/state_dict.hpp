// Strict loading of named tensors.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>

#include "dkdm/error.hpp"

namespace dkdm::model {

// Copies every tensor of `source` into the tensor of the same name in `target`, in place (the
// target's memory format stays). Throws DataError(`where`) when a key is missing, extra or
// misshapen: one line with how many of each there are, the first ten of them and the count of the
// rest; nothing is copied then.
DKDM_API void copy_strictly(const std::map<std::string, at::Tensor>& source,
                            const std::map<std::string, at::Tensor>& target,
                            const std::string& where);

}  // namespace dkdm::model
