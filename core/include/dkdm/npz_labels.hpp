// Class labels beside the images of an npz.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <string>

#include "dkdm/error.hpp"

namespace dkdm::io {

struct Labels {
  at::Tensor values;         // int64 [N] in [0, classes), undefined where there are none
  std::int64_t classes = 0;  // the largest label and one more
};

// Labels of `count` images: the array `key`; with "" `arr_1` (as ADM's sampler writes them), else
// `labels`, else none. Throws DataError for a named array that is absent, and for one that is not
// `count` integers from 0 to 65535.
DKDM_API Labels read_npz_labels(const std::filesystem::path& file, const std::string& key,
                                std::int64_t count);

}  // namespace dkdm::io
