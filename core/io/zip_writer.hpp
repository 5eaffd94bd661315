// A zip archive of stored entries, whole or absent as every file written here.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "io/atomic_file.hpp"

namespace dkdm::io {

class DKDM_API ZipWriter {
 public:
  // Entries' data begin at multiples of `alignment` bytes, 1 … 4096. Each member throws StoreError
  // as AtomicFile does.
  explicit ZipWriter(const std::filesystem::path& file, std::uint64_t alignment = 1);
  ~ZipWriter();

  // One entry: the bytes of `head`, then those of `body`. `name`: at most 60,000 bytes, not used
  // before.
  void add(const std::string& name, std::string_view head, std::string_view body = {});
  // The same of a body that is not in memory as a whole: `each` hands its `bytes` bytes to its
  // argument piece by piece, and is called twice, for the checksum comes first.
  using Pieces = std::function<void(const std::function<void(std::string_view)>&)>;
  void add(const std::string& name, std::string_view head, std::uint64_t bytes, const Pieces& each);
  void commit();

 private:
  AtomicFile output_;
  std::uint64_t alignment_, offset_ = 0, count_ = 0;
  std::string directory_;
};

}  // namespace dkdm::io
