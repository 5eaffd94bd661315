// The bytes of a tensor as files hold them: in logical order, whatever its strides.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string_view>

#include "dkdm/error.hpp"

namespace dkdm::io {

// Hands `take` the bytes from first to last: as one piece where they lie so in memory, else in
// copies of at most `block` bytes, so that a set that fills the memory is not there twice.
DKDM_API void for_each_block(const at::Tensor& tensor,
                             const std::function<void(std::string_view)>& take,
                             std::size_t block = std::size_t{64} << 20);

}  // namespace dkdm::io
