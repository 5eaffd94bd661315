// The npy header, version 1 (numpy's format description): magic, version, u16 length, then a Python
// dictionary of descr, fortran_order and shape, padded with blanks to a multiple of 64 bytes.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "io/zip_reader.hpp"

namespace dkdm::io {

struct NpyHeader {
  at::ScalarType type;
  std::vector<std::int64_t> shape;
};

// Reads versions 1 to 3 in C order, little-endian u1 i4 i8 f2 f4 f8; anything else is a DataError.
NpyHeader read_npy_header(ZipStream& stream);

// Byte for byte what numpy writes. Throws StoreError at `where` for any other type.
std::string npy_header(const at::Tensor& array, const std::string& where);

}  // namespace dkdm::io
