// npz: a zip of npy arrays. Written as numpy.savez does (the format of ADM's sampler and reference
// sets): stored entries, zip64 fields in the local headers, byte for byte.
#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

#include "dkdm/io.hpp"
#include "io/array/npy.hpp"
#include "io/zip_reader.hpp"
#include "io/zip_writer.hpp"

namespace dkdm::io {

std::vector<std::string> npz_keys(const std::filesystem::path& file) {
  std::vector<std::string> keys;
  const ZipReader zip(file);
  for (const ZipEntry& entry : zip.entries()) {
    if (entry.name.ends_with(".npy")) keys.push_back(entry.name.substr(0, entry.name.size() - 4));
  }
  return keys;
}

at::Tensor read_npz(const std::filesystem::path& file, const std::string& key) {
  const ZipReader zip(file);
  std::string found;
  for (const ZipEntry& entry : zip.entries()) {
    if (entry.name != key + ".npy") {
      found += (found.empty() ? "" : ", ") + entry.name;
      continue;
    }
    ZipStream stream(zip, entry);
    const NpyHeader header = read_npy_header(stream);
    const std::uint64_t bytes =
        array_bytes(header.shape, c10::elementSize(header.type), stream.where());
    if (bytes != stream.left()) {
      throw DataError(stream.where(), "its npy header promises " + std::to_string(bytes) +
                                          " bytes, " + std::to_string(stream.left()) + " follow");
    }
    std::vector<std::int64_t> stored = header.shape;
    if (header.fortran_order) std::reverse(stored.begin(), stored.end());
    at::Tensor array = at::empty(stored, header.type);
    auto* data = static_cast<char*>(array.mutable_data_ptr());
    stream.read(data, bytes);
    stream.finish();
    const auto is_bit = [](char byte) { return byte == 0 || byte == 1; };
    if (header.type == at::kBool && !std::all_of(data, data + bytes, is_bit)) {
      throw DataError(stream.where(), "a boolean is neither 0 nor 1");
    }
    for (std::uint64_t at = 0; header.swapped > 0 && at < bytes; at += header.swapped) {
      std::reverse(data + at, data + at + header.swapped);
    }
    if (!header.fortran_order) return array;
    std::vector<std::int64_t> turned(stored.size());
    std::iota(turned.rbegin(), turned.rend(), std::int64_t{0});
    return array.permute(turned).contiguous();
  }
  throw DataError(file.string(), "has no array '" + key + "'; it holds " +
                                     (found.empty() ? "nothing" : found));
}

void write_npz(const std::filesystem::path& file, const TensorMap& arrays) {
  ZipWriter zip(file);
  for (const auto& [key, tensor] : arrays) {
    const std::string where = file.string() + ": array '" + key + "'";
    if (!tensor.defined() || key.size() > 1000) throw StoreError(where + ": cannot be written");
    const at::Tensor array = tensor.detach().to(at::kCPU).contiguous();
    zip.add(key + ".npy", npy_header(array, where),
            {static_cast<const char*>(array.const_data_ptr()), array.nbytes()});
  }
  zip.commit();
}

}  // namespace dkdm::io
