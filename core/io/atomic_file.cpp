// The order that survives a power cut: data to disk, rename, folder to disk.
#include "io/atomic_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

namespace dkdm::io {

AtomicFile::AtomicFile(std::filesystem::path target) : target_(std::move(target)) {
  static std::atomic<unsigned> serial{0};
  temporary_ = target_.parent_path() / ("." + target_.filename().string() + "." +
                                        std::to_string(::getpid()) + "-" +
                                        std::to_string(serial++) + ".tmp");
  // A name of ours that exists is the leaving of a dead process with our number: written over.
  descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail("create");
}

AtomicFile::~AtomicFile() { discard(); }

void AtomicFile::discard() {
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = -1;
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
  temporary_.clear();
}

void AtomicFile::fail(const std::string& doing) {
  const std::string reason = std::strerror(errno);
  discard();
  throw StoreError(target_.string() + ": cannot " + doing + ": " + reason);
}

void AtomicFile::write(const void* data, std::uint64_t bytes) {
  const char* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const std::size_t piece = std::min<std::uint64_t>(bytes, std::uint64_t{1} << 30);
    const ssize_t wrote = ::write(descriptor_, from, piece);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) fail("write");
    from += wrote;
    bytes -= static_cast<std::uint64_t>(wrote);
  }
}

void AtomicFile::commit() {
  if (::fsync(descriptor_) != 0) fail("write to disk");
  const int closed = ::close(descriptor_);
  descriptor_ = -1;
  if (closed != 0) fail("close");  // where a network file system reports a full disk
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail("put in place");
  temporary_.clear();

  const std::filesystem::path parent = target_.parent_path().empty() ? "." : target_.parent_path();
  const int folder = ::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) fail("open the folder of");
  const int synced = ::fsync(folder), reason = errno;
  ::close(folder);
  errno = reason;
  // Some file systems do not sync folders and say EINVAL; the rename stands all the same.
  if (synced != 0 && errno != EINVAL) fail("sync the folder of");
}

}  // namespace dkdm::io
