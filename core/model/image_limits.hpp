// Image shapes that networks are made for here.
#pragma once

#include <cstdint>
#include <string>

#include "dkdm/shape.hpp"

namespace dkdm::model {

inline constexpr std::int64_t kMostChannels = 64, kLargestSide = 4096;

// Throws DataError(`where`) for other ones.
DKDM_API void check_shape(const SampleShape& shape, const std::string& where);

}  // namespace dkdm::model
