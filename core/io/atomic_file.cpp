// The order that survives a power cut: data to disk, rename, folder to disk.
#include "io/atomic_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <system_error>
#include <vector>

#include "dkdm/store_error.hpp"

namespace dkdm::io {

namespace {

namespace fs = std::filesystem;

// The number of the open file of this process that a name stands for, -1 = none.
int own_descriptor(const fs::path& file) {
  if (file == "/dev/stdout") return STDOUT_FILENO;
  if (file == "/dev/stderr") return STDERR_FILENO;
  if (file.parent_path() != "/dev/fd" && file.parent_path() != "/proc/self/fd") return -1;
  const std::string name = file.filename();
  int number = -1;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  return error == std::errc() && end == name.data() + name.size() ? number : -1;
}

// Where a chain of links ends, whether or not there is a file, or the first name of an open one.
fs::path end_of_links(fs::path file) {
  constexpr int kMost = 40;  // the system's own limit, so opening it fails before
  for (int i = 0; i < kMost && own_descriptor(file) < 0; ++i) {
    std::error_code none;
    const auto next = fs::read_symlink(file, none);
    if (none) break;
    file = next.is_absolute() ? next : file.parent_path() / next;
  }
  return file;
}

}  // namespace

// Opened rather than looked at, so that the system's own rules hold: for permissions, and for links
// that others left in folders where everybody may write.
void AtomicFile::resolve() {
  file_ = end_of_links(target_);
  if (const int own = own_descriptor(file_); own >= 0) {
    // With its place in the file: what was written there before stays.
    descriptor_ = ::fcntl(own, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (descriptor_ < 0) fail("write");
    return;
  }
  descriptor_ = ::open(target_.c_str(), O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (descriptor_ < 0 && errno == ENOENT) return;  // a new file
  if (descriptor_ < 0 && errno == ENXIO) fail("write", "a pipe or socket that nobody reads");
  struct stat status{};
  if (descriptor_ < 0 || ::fstat(descriptor_, &status) != 0) fail("write");
  if (!S_ISREG(status.st_mode)) {
    // A slow reader is waited for, as by any program.
    const int flags = ::fcntl(descriptor_, F_GETFL);
    if (flags < 0 || ::fcntl(descriptor_, F_SETFL, flags & ~O_NONBLOCK) != 0) fail("write");
    return;
  }
  ::close(descriptor_);
  descriptor_ = -1;
  permissions_ = status.st_mode & 0777;
}

AtomicFile::AtomicFile(fs::path target) : target_(std::move(target)) {
  resolve();
  if (descriptor_ >= 0) return;
  static std::atomic<unsigned> serial{0};
  temporary_ =
      file_.parent_path() / ("." + file_.filename().string() + "." + std::to_string(::getpid()) +
                             "-" + std::to_string(serial++) + ".tmp");
  // A name of ours that exists is the leaving of a dead process with our number: written over.
  descriptor_ =
      ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail("create");
  // Some file systems have no permissions; the file is as good without.
  if (permissions_) [[maybe_unused]]
    const int kept = ::fchmod(descriptor_, *permissions_);
}

AtomicFile::~AtomicFile() { discard(); }

void AtomicFile::discard() {
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = -1;
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
  temporary_.clear();
}

void AtomicFile::fail(const std::string& doing, std::string reason) {
  if (reason.empty()) reason = std::strerror(errno);
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
  const bool in_place = temporary_.empty();  // a device or pipe
  if (!in_place && ::fsync(descriptor_) != 0) fail("write to disk");
  const int closed = ::close(descriptor_);
  descriptor_ = -1;
  if (closed != 0) fail("close");  // where a network file system reports a full disk
  if (in_place) return;
  if (::rename(temporary_.c_str(), file_.c_str()) != 0) fail("put in place");
  temporary_.clear();

  const fs::path parent = file_.parent_path().empty() ? "." : file_.parent_path();
  const int folder = ::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) fail("open the folder of");
  const int synced = ::fsync(folder), reason = errno;
  ::close(folder);
  errno = reason;
  // Some file systems do not sync folders and say EINVAL; the rename stands all the same.
  if (synced != 0 && errno != EINVAL) fail("sync the folder of");
}

void remove_temporaries(const fs::path& folder) {
  std::vector<fs::path> left;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with('.') && name.ends_with(".tmp") && !entry.is_directory())
      left.push_back(entry.path());
  }
  std::error_code ignored;  // one that stays is no part of the artifact either
  for (const fs::path& file : left) fs::remove(file, ignored);
}

}  // namespace dkdm::io
