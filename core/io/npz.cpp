// npz: a zip of npy arrays. Written as numpy.savez does (the format of ADM's sampler and reference
// sets): stored entries, zip64 fields in the local headers, byte for byte.
#include <ATen/ATen.h>

#include "dkdm/io.hpp"
#include "io/atomic_file.hpp"
#include "io/npy.hpp"
#include "io/zip_reader.hpp"

namespace dkdm::io {
namespace {

constexpr std::uint32_t kIn64 = 0xffffffff;

template <class T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

// Fields that local header and directory share: version 4.5, no flags, stored, 1980-01-01.
void put_common(std::string& out, std::uint32_t crc) {
  put<std::uint16_t>(out, 45);
  put<std::uint16_t>(out, 0);
  put<std::uint16_t>(out, 0);
  put<std::uint16_t>(out, 0);
  put<std::uint16_t>(out, 0x21);
  put(out, crc);
}

std::string local_header(const ZipEntry& entry) {
  std::string out = "PK\x03\x04";
  put_common(out, entry.crc);
  put(out, kIn64);
  put(out, kIn64);
  put<std::uint16_t>(out, static_cast<std::uint16_t>(entry.name.size()));
  put<std::uint16_t>(out, 20);
  out += entry.name;
  put<std::uint16_t>(out, 1);  // zip64: 16 bytes of sizes
  put<std::uint16_t>(out, 16);
  put(out, entry.size);
  put(out, entry.packed);
  return out;
}

std::string directory_entry(const ZipEntry& entry) {
  // The directory has zip64 fields only where a value needs one (Python's limit is 2^31 - 1).
  constexpr std::uint64_t limit = 0x7fffffff;
  std::string extra;
  const bool wide_size = entry.size > limit, wide_header = entry.header > limit;
  if (wide_size) {
    put(extra, entry.size);
    put(extra, entry.packed);
  }
  if (wide_header) put(extra, entry.header);
  std::string field;
  if (!extra.empty()) {
    put<std::uint16_t>(field, 1);
    put<std::uint16_t>(field, static_cast<std::uint16_t>(extra.size()));
  }
  field += extra;

  std::string out = "PK\x01\x02";
  put<std::uint16_t>(out, 0x032d);  // made on Unix, version 4.5
  put_common(out, entry.crc);
  put(out, wide_size ? kIn64 : static_cast<std::uint32_t>(entry.packed));
  put(out, wide_size ? kIn64 : static_cast<std::uint32_t>(entry.size));
  put<std::uint16_t>(out, static_cast<std::uint16_t>(entry.name.size()));
  put<std::uint16_t>(out, static_cast<std::uint16_t>(field.size()));
  put<std::uint16_t>(out, 0);              // comment
  put<std::uint16_t>(out, 0);              // disk
  put<std::uint16_t>(out, 0);              // internal attributes
  put<std::uint32_t>(out, 0600u << 16);    // permissions
  put(out, wide_header ? kIn64 : static_cast<std::uint32_t>(entry.header));
  return out + entry.name + field;
}

std::string end_records(std::uint64_t count, std::uint64_t offset, std::uint64_t bytes) {
  std::string out;
  const bool wide = count > 0xffff || offset > 0x7fffffff || bytes > 0x7fffffff;
  if (wide) {
    out += "PK\x06\x06";
    put<std::uint64_t>(out, 44);
    put<std::uint16_t>(out, 45);
    put<std::uint16_t>(out, 45);
    put<std::uint64_t>(out, 0);
    put(out, count);
    put(out, count);
    put(out, bytes);
    put(out, offset);
    out += "PK\x06\x07";
    put<std::uint32_t>(out, 0);
    put(out, offset + bytes);
    put<std::uint32_t>(out, 1);
  }
  out += "PK\x05\x06";
  put<std::uint32_t>(out, 0);
  const auto short_count = static_cast<std::uint16_t>(std::min<std::uint64_t>(count, 0xffff));
  put(out, short_count);
  put(out, short_count);
  put(out, static_cast<std::uint32_t>(std::min<std::uint64_t>(bytes, kIn64)));
  put(out, static_cast<std::uint32_t>(std::min<std::uint64_t>(offset, kIn64)));
  put<std::uint16_t>(out, 0);
  return out;
}

}  // namespace

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
    at::Tensor array = at::empty(header.shape, header.type);
    stream.read(array.mutable_data_ptr(), bytes);
    stream.finish();
    return array;
  }
  throw DataError(file.string(), "has no array '" + key + "'; it holds " +
                                     (found.empty() ? "nothing" : found));
}

void write_npz(const std::filesystem::path& file, const TensorMap& arrays) {
  AtomicFile output(file);
  std::string directory;
  std::uint64_t offset = 0;
  for (const auto& [key, tensor] : arrays) {
    const std::string where = file.string() + ": array '" + key + "'";
    if (!tensor.defined() || key.size() > 1000) throw StoreError(where + ": cannot be written");
    const at::Tensor array = tensor.detach().to(at::kCPU).contiguous();
    const std::string header = npy_header(array, where);
    const std::uint64_t bytes = array.numel() * array.element_size();
    ZipEntry entry{.name = key + ".npy", .packed = header.size() + bytes,
                   .size = header.size() + bytes, .header = offset};
    const auto* head = reinterpret_cast<const unsigned char*>(header.data());
    const auto* data = static_cast<const unsigned char*>(array.const_data_ptr());
    const auto crc = ::crc32_z(0, head, header.size());
    // crc32_z takes a null pointer as "give the initial value", which an empty array may have.
    entry.crc = static_cast<std::uint32_t>(bytes ? ::crc32_z(crc, data, bytes) : crc);
    const std::string local = local_header(entry);
    output.write(local);
    output.write(header);
    output.write(data, bytes);
    directory += directory_entry(entry);
    offset += local.size() + entry.packed;
  }
  output.write(directory);
  output.write(end_records(arrays.size(), offset, directory.size()));
  output.commit();
}

}  // namespace dkdm::io
