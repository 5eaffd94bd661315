// The part of zip that npz and PyTorch need: single-disk archives, stored or deflated entries,
// zip64. Every length is checked against the file before it is used; errors are DataError with the
// byte.
#pragma once

#include <zlib.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "io/input_file.hpp"

namespace dkdm::io {

struct ZipEntry {
  std::string name;
  std::uint64_t packed = 0, size = 0;  // bytes in the file, and unpacked
  std::uint64_t header = 0;            // offset of the local header
  std::uint32_t crc = 0;
  bool deflated = false;
};

class ZipReader {
 public:
  explicit ZipReader(const std::filesystem::path& file);
  // `source` must outlive it.
  explicit ZipReader(const ByteSource& source);

  const ByteSource& file() const { return file_; }
  const std::vector<ZipEntry>& entries() const { return entries_; }
  // Offset of the entry's packed bytes.
  std::uint64_t data_offset(const ZipEntry& entry) const;

 private:
  struct Directory {
    std::uint64_t offset = 0, bytes = 0, count = 0;
  };
  Directory find_directory() const;
  ZipEntry parse_entry(const std::string& directory, std::uint64_t& at) const;

  void read_directory();

  std::unique_ptr<const ByteSource> own_;
  const ByteSource& file_;
  std::uint64_t directory_offset_ = 0;
  std::vector<ZipEntry> entries_;
};

// One entry's unpacked bytes in order. `zip` and `entry` must outlive it.
class ZipStream {
 public:
  ZipStream(const ZipReader& zip, const ZipEntry& entry);
  ~ZipStream();
  ZipStream(const ZipStream&) = delete;
  ZipStream& operator=(const ZipStream&) = delete;

  void read(void* out, std::uint64_t bytes);  // exactly
  std::string read(std::uint64_t bytes);      // bytes: at most the entry's
  std::uint64_t left() const { return entry_.size - done_; }
  // Checks that nothing is left and that the checksum is right.
  void finish();
  std::string where() const;  // "FILE: entry 'a.npy'"

 private:
  void inflate(unsigned char* out, std::uint64_t bytes);

  const ZipReader& zip_;
  const ZipEntry& entry_;
  std::uint64_t at_, end_;  // packed bytes not yet taken
  std::uint64_t done_ = 0;
  std::uint32_t crc_ = 0;
  std::vector<unsigned char> packed_;
  z_stream stream_{};
};

}  // namespace dkdm::io
