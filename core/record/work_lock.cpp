#include "record/work_lock.hpp"

#include <fcntl.h>
#include <mntent.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <memory>
#include <thread>

#include "dkdm/error.hpp"
#include "dkdm/store_error.hpp"

namespace dkdm::record {
namespace {

namespace fs = std::filesystem;

// "nfs4 at /home": the mount that `file` lies on.
std::string file_system_of(const fs::path& file) {
  const std::unique_ptr<FILE, int (*)(FILE*)> mounts(::setmntent("/proc/self/mounts", "r"),
                                                     &::endmntent);
  std::string best, type;
  std::array<char, 4096> buffer{};
  mntent entry{};
  while (mounts && ::getmntent_r(mounts.get(), &entry, buffer.data(), int(buffer.size()))) {
    const std::string point = entry.mnt_dir;
    const bool holds = point == "/" || file.string().starts_with(point + "/");
    if (!holds || point.size() < best.size()) continue;
    best = point;
    type = entry.mnt_type;
  }
  return type.empty() ? "the file system" : type + " at " + best;
}

}  // namespace

WorkLock::WorkLock(const fs::path& file, const Waiting& waiting) {
  descriptor_ = ::open(file.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644);
  if (descriptor_ < 0)
    throw StoreError(file.string() + ": cannot open the lock: " + std::strerror(errno));
  try {
    while (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
      const int reason = errno;
      if (reason == EINTR) continue;
      if (reason != EWOULDBLOCK)
        throw StoreError(
            file.string() + ": cannot be locked: " + std::strerror(reason) + " (" +
            file_system_of(fs::absolute(file)) +
            "); set DKDM_HOME to a folder on a local disk, or mount this one with locks");
      waiting(holder());
      std::this_thread::sleep_for(std::chrono::milliseconds(500));
    }
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
  sign();
}

WorkLock::~WorkLock() { ::close(descriptor_); }

void WorkLock::sign() const {
  std::array<char, 256> host{};
  ::gethostname(host.data(), host.size() - 1);
  const std::string text = std::to_string(::getpid()) + " " + std::to_string(std::time(nullptr)) +
                           " " + host.data() + "\n";
  // A lock that does not say whose it is is a lock all the same.
  [[maybe_unused]] const bool written =
      ::ftruncate(descriptor_, 0) == 0 && ::pwrite(descriptor_, text.data(), text.size(), 0) > 0;
}

std::string WorkLock::holder() const {
  std::array<char, 512> text{};
  std::array<char, 256> host{};
  long pid = 0;
  long long since = 0;
  if (::pread(descriptor_, text.data(), text.size() - 1, 0) <= 0 ||
      std::sscanf(text.data(), "%ld %lld %255s", &pid, &since, host.data()) != 3)
    return "another process";
  const std::time_t moment = since;
  std::tm local{};
  std::array<char, 32> time{};
  ::localtime_r(&moment, &local);
  std::strftime(time.data(), time.size(), "%d %b %H:%M", &local);
  return "process " + std::to_string(pid) + " on " + host.data() + ", since " + time.data();
}

}  // namespace dkdm::record
