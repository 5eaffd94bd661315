// A regular file read at offsets. Reads are exact: whatever a header promises and the file does not
// hold is a DataError that names the byte.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "dkdm/error.hpp"

namespace dkdm::io {

static_assert(std::endian::native == std::endian::little, "files here are little-endian");

// "FILE: byte 12", where an error is.
std::string at_byte(const std::filesystem::path& file, std::uint64_t offset);

class InputFile {
 public:
  // Throws DataError when the file is absent, unreadable or not a regular file.
  explicit InputFile(std::filesystem::path file);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::uint64_t size() const { return size_; }  // bytes
  // Throws DataError when fewer bytes than asked follow `offset`.
  void read(std::uint64_t offset, void* out, std::uint64_t bytes) const;
  std::string read(std::uint64_t offset, std::uint64_t bytes) const;

 private:
  std::filesystem::path path_;
  int descriptor_;
  std::uint64_t size_ = 0;
};

template <class T>
T little_endian(const char* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

// No format here packs better than deflate, whose limit is 1032 to 1: a promise of more is a lie.
inline constexpr std::uint64_t kDeflateLimit = 1032;

// Bytes of an array, or DataError at `where` for a negative or absurd dimension or an overflow.
// Dimensions of 0 count as 1 for the overflow check, since strides are computed from them.
std::uint64_t array_bytes(const std::vector<std::int64_t>& shape, std::uint64_t item_size,
                          const std::string& where);

}  // namespace dkdm::io
