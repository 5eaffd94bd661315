// Stored entries with zip64 fields, byte for byte as Python's zipfile writes them for numpy.savez.
#include "io/zip_writer.hpp"

#include <zlib.h>

#include <algorithm>

#include "io/zip_reader.hpp"

namespace dkdm::io {
namespace {

constexpr std::uint32_t kIn64 = 0xffffffff;      // "see the zip64 record"
constexpr std::uint16_t kPaddingField = 0x4246;  // "FB", PyTorch's own

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

// The zip64 field of sizes always; then, where `alignment` asks, bytes that put the data at a
// multiple of it in the file.
std::string local_header(const ZipEntry& entry, std::uint64_t alignment) {
  constexpr std::uint64_t fixed = 30 + 20, field = 4;
  const std::uint64_t data = entry.header + fixed + entry.name.size() + field;
  const std::uint64_t padding = alignment - 1 - (data + alignment - 1) % alignment;
  std::string out = "PK\x03\x04";
  put_common(out, entry.crc);
  put(out, kIn64);
  put(out, kIn64);
  put<std::uint16_t>(out, static_cast<std::uint16_t>(entry.name.size()));
  put<std::uint16_t>(out, static_cast<std::uint16_t>(alignment > 1 ? 20 + field + padding : 20));
  out += entry.name;
  put<std::uint16_t>(out, 1);  // zip64: 16 bytes of sizes
  put<std::uint16_t>(out, 16);
  put(out, entry.size);
  put(out, entry.packed);
  if (alignment > 1) {
    put(out, kPaddingField);
    put<std::uint16_t>(out, static_cast<std::uint16_t>(padding));
    out.append(padding, 'Z');
  }
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
  put<std::uint16_t>(out, 0);            // comment
  put<std::uint16_t>(out, 0);            // disk
  put<std::uint16_t>(out, 0);            // internal attributes
  put<std::uint32_t>(out, 0600u << 16);  // permissions
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

std::uint32_t checksum(std::uint32_t begun, std::string_view bytes) {
  if (bytes.empty()) return begun;  // crc32_z takes a null pointer as "give the initial value"
  const auto* data = reinterpret_cast<const unsigned char*>(bytes.data());
  return static_cast<std::uint32_t>(::crc32_z(begun, data, bytes.size()));
}

}  // namespace

ZipWriter::ZipWriter(const std::filesystem::path& file, std::uint64_t alignment)
    : output_(file), alignment_(alignment) {}

ZipWriter::~ZipWriter() = default;

void ZipWriter::add(const std::string& name, std::string_view head, std::string_view body) {
  add(name, head, body.size(), [&](const auto& take) { take(body); });
}

void ZipWriter::add(const std::string& name, std::string_view head, std::uint64_t bytes,
                    const Pieces& each) {
  const std::uint64_t size = head.size() + bytes;
  std::uint32_t crc = checksum(0, head);
  each([&](std::string_view piece) { crc = checksum(crc, piece); });
  const ZipEntry entry{.name = name, .packed = size, .size = size, .header = offset_, .crc = crc};
  const std::string local = local_header(entry, alignment_);
  output_.write(local);
  output_.write(head.data(), head.size());
  each([&](std::string_view piece) { output_.write(piece.data(), piece.size()); });
  directory_ += directory_entry(entry);
  offset_ += local.size() + size;
  ++count_;
}

void ZipWriter::commit() {
  output_.write(directory_);
  output_.write(end_records(count_, offset_, directory_.size()));
  output_.commit();
}

}  // namespace dkdm::io
