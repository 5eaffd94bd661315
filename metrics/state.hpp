// Accumulators' states in and out.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <vector>

namespace dkdm::metrics {

// The tensor of `key`, of that type and shape (-1 = any length). Throws std::invalid_argument that
// names the key and what it has instead.
at::Tensor state_tensor(const std::map<std::string, at::Tensor>& state, const std::string& key,
                        at::ScalarType type, const std::vector<std::int64_t>& shape);

}  // namespace dkdm::metrics
