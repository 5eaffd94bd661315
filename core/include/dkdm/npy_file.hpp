// Arrays of numpy in files of their own (numpy.save). Threads: any.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>

#include "dkdm/error.hpp"

namespace dkdm::io {

// The array of an npy, in C order: what numpy.load(allow_pickle=False) reads, of the types of
// read_npz and bool, i1, i2, u2, u4, u8, c8 and c16. Throws DataError naming the file.
DKDM_API at::Tensor read_npy(const std::filesystem::path& file);

}  // namespace dkdm::io
