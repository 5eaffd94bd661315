// A file that appears whole or not at all: written under a temporary name in the same folder,
// synced, renamed over the target by commit(). Without commit() the temporary file is removed.
// A target that is a device, a pipe or a socket stays what it is, and is written into as it comes.
// A target that is a symbolic link stays one: what it points to is written, in its own folder, with
// the permissions that it had; where it points to nothing, the file is made there.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "dkdm/error.hpp"

namespace dkdm::io {

class AtomicFile {
 public:
  // Each member throws StoreError naming the file and the system's reason; the temporary file is
  // then gone and whatever stood at `target` before is untouched. A folder, a file that may not be
  // written and a pipe that nobody reads are refused here.
  explicit AtomicFile(std::filesystem::path target);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, std::uint64_t bytes);
  void write(const std::string& text) { write(text.data(), text.size()); }
  void commit();

 private:
  // `reason` "" = the system's, from errno.
  [[noreturn]] void fail(const std::string& doing, std::string reason = "");
  void discard();
  // Finds file_ and its permissions, or opens the device or pipe.
  void resolve();

  std::filesystem::path target_;     // as it was asked for
  std::filesystem::path file_;       // what is replaced: where its links lead
  std::filesystem::path temporary_;  // empty while a device or pipe is written into
  int descriptor_ = -1;
  std::optional<mode_t> permissions_;  // of the file that is replaced
};

// Removes what AtomicFile leaves in `folder` (and below) when its process is killed. Only for a
// folder that no other process is writing to.
void remove_temporaries(const std::filesystem::path& folder);

}  // namespace dkdm::io
