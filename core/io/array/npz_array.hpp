// One array of an npz, larger than memory perhaps: read from its beginning, or written row by row.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "io/array/npy.hpp"
#include "io/zip_reader.hpp"

namespace dkdm::io {

// An array whose header is read and agrees with what follows: `bytes` bytes of data, which `stream`
// gives. Throws DataError: no such array, no npy header, another number of bytes than it promises.
struct NpzArray {
  // `check`, where there is one, sees the entry before anything of it is unpacked.
  NpzArray(const std::filesystem::path& file, const std::string& key,
           const std::function<void(const ZipEntry&, const std::string& where)>& check = {});

  // Where the first byte of data is in the file, of an array that is stored.
  std::uint64_t data_offset() const { return zip.data_offset(entry) + entry.size - bytes; }

  ZipReader zip;
  const ZipEntry& entry;
  ZipStream stream;
  NpyHeader header;
  std::uint64_t bytes = 0;
};

// Array `key`, uint8 of `sizes`, as write_npz writes it. `each` hands its rows, contiguous, to its
// argument in order, some at a time, and is called twice. Throws StoreError as write_npz does.
DKDM_API void write_npz_rows(
    const std::filesystem::path& file, const std::string& key, at::IntArrayRef sizes,
    const std::function<void(const std::function<void(const at::Tensor&)>&)>& each);

}  // namespace dkdm::io
