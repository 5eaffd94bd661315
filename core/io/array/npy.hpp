// The npy header (numpy's format description): magic, version, length, then a Python dictionary of
// descr, fortran_order and shape.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "io/zip_reader.hpp"

namespace dkdm::io {

struct NpyHeader {
  at::ScalarType type;
  std::vector<std::int64_t> shape;
  bool fortran_order = false;  // the first index runs fastest
  std::uint8_t swapped = 0;    // bytes of a word that are big-endian, 0 = little-endian
};

// Reads every header that numpy.load(allow_pickle=False) reads: versions 1 to 3, keys in any order,
// shapes of Python 2 ("24L"), any byte order, Fortran order, at most 10,000 bytes. Types without a
// counterpart here (texts, dates, structures, long doubles, Python objects) are a DataError that
// names them, as is anything else.
NpyHeader read_npy_header(ZipStream& stream);
// The same of a file of its own. `data` is where the header ends.
NpyHeader read_npy_header(const ByteSource& file, std::uint64_t& data);

// The array of `header`, in C order and this machine's bytes. `read` puts its bytes, as they are
// stored, where it is told to.
at::Tensor read_npy_data(const NpyHeader& header, const std::string& where,
                         const std::function<void(void* out, std::uint64_t bytes)>& read);

// Byte for byte what numpy writes. Throws StoreError at `where` for any other type than u1, i4, i8,
// f2, f4 and f8.
std::string npy_header(const at::Tensor& array, const std::string& where);

}  // namespace dkdm::io
