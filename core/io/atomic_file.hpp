// A file that appears whole or not at all: written under a temporary name in the same folder,
// synced, renamed over the target by commit(). Without commit() the temporary file is removed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "dkdm/error.hpp"

namespace dkdm::io {

class AtomicFile {
 public:
  // Each member throws StoreError naming the file and the system's reason; the temporary file is
  // then gone and whatever stood at `target` before is untouched.
  explicit AtomicFile(std::filesystem::path target);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, std::uint64_t bytes);
  void write(const std::string& text) { write(text.data(), text.size()); }
  void commit();

 private:
  [[noreturn]] void fail(const std::string& doing);
  void discard();

  std::filesystem::path target_, temporary_;
  int descriptor_ = -1;
};

}  // namespace dkdm::io
