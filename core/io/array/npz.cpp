// npz: a zip of npy arrays. Written as numpy.savez does (the format of ADM's sampler and reference
// sets): stored entries, zip64 fields in the local headers, byte for byte.
#include <ATen/ATen.h>

#include <algorithm>

#include "dkdm/io.hpp"
#include "dkdm/store_error.hpp"
#include "io/array/npz_array.hpp"
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

std::string npz_checksums(const std::filesystem::path& file) {
  std::string text;
  const ZipReader zip(file);
  for (const ZipEntry& entry : zip.entries()) {
    text += entry.name + " " + std::to_string(entry.size) + " " + std::to_string(entry.crc) + "\n";
  }
  return text;
}

namespace {

const ZipEntry& find_entry(const ZipReader& zip, const std::filesystem::path& file,
                           const std::string& key) {
  std::string found;
  for (const ZipEntry& entry : zip.entries()) {
    if (entry.name == key + ".npy") return entry;
    found += (found.empty() ? "" : ", ") + entry.name;
  }
  throw DataError(file.string(),
                  "has no array '" + key + "'; it holds " + (found.empty() ? "nothing" : found));
}

}  // namespace

NpzArray::NpzArray(const std::filesystem::path& file, const std::string& key,
                   const std::function<void(const ZipEntry&, const std::string& where)>& check)
    : zip(file), entry(find_entry(zip, file, key)), stream(zip, entry) {
  if (check) check(entry, stream.where());
  header = read_npy_header(stream);
  bytes = array_bytes(header.shape, c10::elementSize(header.type), stream.where());
  if (bytes != stream.left()) {
    throw DataError(stream.where(), "its npy header promises " + std::to_string(bytes) +
                                        " bytes, " + std::to_string(stream.left()) + " follow");
  }
}

at::Tensor read_npz(const std::filesystem::path& file, const std::string& key) {
  NpzArray open(file, key);
  auto& [zip, entry, stream, header, bytes] = open;
  return read_npy_data(header, stream.where(), [&](void* out, std::uint64_t count) {
    stream.read(out, count);
    stream.finish();
  });
}

at::Tensor map_npz(const std::filesystem::path& file, const std::string& key) {
  NpzArray open(file, key);
  auto& [zip, entry, stream, header, bytes] = open;
  if (entry.deflated || header.type != at::kByte || header.fortran_order || bytes == 0)
    return read_npz(file, key);
  // Once through it for the checksum: later, pages come without one.
  std::vector<char> piece(std::min<std::uint64_t>(bytes, std::uint64_t{1} << 20));
  while (stream.left() > 0)
    stream.read(piece.data(), std::min<std::uint64_t>(stream.left(), piece.size()));
  stream.finish();
  const auto mapped = std::make_shared<MappedFile>(file);
  const auto data = mapped->view(open.data_offset(), bytes);
  // A private mapping: what is written to it stays in memory.
  return at::from_blob(const_cast<char*>(data.data()), header.shape, [mapped](void*) {}, at::kByte);
}

namespace {

std::string_view bytes_of(const at::Tensor& contiguous) {
  return {static_cast<const char*>(contiguous.const_data_ptr()), contiguous.nbytes()};
}

}  // namespace

void write_npz(const std::filesystem::path& file, const TensorMap& arrays) {
  ZipWriter zip(file);
  for (const auto& [key, tensor] : arrays) {
    const std::string where = file.string() + ": array '" + key + "'";
    if (!tensor.defined() || key.size() > 1000) throw StoreError(where + ": cannot be written");
    const at::Tensor array = tensor.detach().to(at::kCPU).contiguous();
    zip.add(key + ".npy", npy_header(array, where), bytes_of(array));
  }
  zip.commit();
}

void write_npz_rows(
    const std::filesystem::path& file, const std::string& key, at::IntArrayRef sizes,
    const std::function<void(const std::function<void(const at::Tensor&)>&)>& each) {
  ZipWriter zip(file);
  const at::Tensor whole = at::empty({1}, at::kByte).expand(sizes);  // its shape alone
  zip.add(key + ".npy", npy_header(whole, file.string() + ": array '" + key + "'"),
          static_cast<std::uint64_t>(whole.numel()),
          [&](const auto& take) { each([&](const at::Tensor& rows) { take(bytes_of(rows)); }); });
  zip.commit();
}

}  // namespace dkdm::io
