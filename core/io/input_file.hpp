// Files read at offsets, by system calls or through a mapping. Reads are exact: whatever a header
// promises and the file does not hold is a DataError that names the byte.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "dkdm/error.hpp"

namespace dkdm::io {

static_assert(std::endian::native == std::endian::little, "files here are little-endian");

// "FILE: byte 12", where an error is.
std::string at_byte(const std::filesystem::path& file, std::uint64_t offset);

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  ByteSource(const ByteSource&) = delete;
  ByteSource& operator=(const ByteSource&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::uint64_t size() const { return size_; }  // bytes
  // Throws DataError when fewer bytes than asked follow `offset`.
  virtual void read(std::uint64_t offset, void* out, std::uint64_t bytes) const = 0;
  std::string read(std::uint64_t offset, std::uint64_t bytes) const;

 protected:
  ByteSource(std::filesystem::path path, std::uint64_t size)
      : path_(std::move(path)), size_(size) {}
  void require(std::uint64_t offset, std::uint64_t bytes) const;

 private:
  std::filesystem::path path_;
  std::uint64_t size_;
};

// An open regular file. Throws DataError when it is absent, unreadable or anything else: a folder,
// a pipe (FIFO), a socket, a device. Never waits for a pipe's other end. Every input is opened by
// it.
class Descriptor {
 public:
  explicit Descriptor(const std::filesystem::path& file);
  ~Descriptor();
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  int number() const { return number_; }
  std::uint64_t size() const { return size_; }

 private:
  int number_;
  std::uint64_t size_ = 0;
};

class InputFile final : private Descriptor, public ByteSource {
 public:
  explicit InputFile(const std::filesystem::path& file)
      : Descriptor(file), ByteSource(file, Descriptor::size()) {}
  using ByteSource::read;
  using ByteSource::size;
  void read(std::uint64_t offset, void* out, std::uint64_t bytes) const override;
};

// A whole file in memory: pages are read when touched and a write to them never reaches the file. A
// file that another program shortens meanwhile ends this one (SIGBUS), as with every mapping.
class MappedFile final : public ByteSource {
 public:
  // Throws DataError also when the system refuses the mapping.
  explicit MappedFile(const std::filesystem::path& file);
  // Bytes that are in memory already, under a file's name. They must outlive this.
  MappedFile(const std::filesystem::path& name, std::string_view bytes);
  ~MappedFile() override;

  using ByteSource::read;
  void read(std::uint64_t offset, void* out, std::uint64_t bytes) const override;
  // Throws DataError as read does.
  std::string_view view(std::uint64_t offset, std::uint64_t bytes) const;
  const char* data() const { return data_; }

 private:
  MappedFile(const std::filesystem::path& file, const Descriptor& open);

  const char* data_ = nullptr;
  bool mapped_ = false;
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
