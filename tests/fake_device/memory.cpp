#include "fake_device/memory.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <csignal>

#include <c10/core/CachingDeviceAllocator.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "fake_device/fake_device.hpp"
#include "fake_device/record.hpp"

namespace fake_device {
namespace {

constexpr std::size_t kCapacity = std::size_t{64} << 30;  // of addresses; memory is what is written
constexpr std::size_t kLarge = std::size_t{16} << 20;     // freed, given back to the system

class Memory {
 public:
  // Lives as long as the process: storages outlive static objects.
  static Memory& instance() {
    static auto* memory = new Memory();
    return *memory;
  }

  void* allocate(std::size_t bytes) {
    const std::size_t size = rounded(bytes);
    const std::scoped_lock lock(mutex_);
    report_faults();
    TORCH_CHECK_WITH(OutOfMemoryError, in_use_ + size <= limit_, "fake device out of memory. ",
                     "Tried to allocate ", mebibytes(bytes),
                     ". The device has a total capacity of ", mebibytes(limit_), " of which ",
                     mebibytes(limit_ - in_use_), " is free.");
    in_use_ += size;
    peak_ = std::max(peak_, in_use_);
    std::size_t offset = 0;
    if (auto& list = free_[size]; !list.empty()) {
      offset = list.back();
      list.pop_back();
    } else {
      TORCH_CHECK(end_ + size <= kCapacity, "fake device: out of addresses");
      offset = end_;
      end_ += size;
    }
    sizes_[offset] = size;
    return closed_ + offset;
  }

  void release(void* address) {
    const std::scoped_lock lock(mutex_);
    const std::size_t offset = static_cast<std::size_t>(static_cast<char*>(address) - closed_);
    const auto found = sizes_.find(offset);
    const std::size_t size = found->second;
    sizes_.erase(found);
    in_use_ -= size;
    if (size >= kLarge) {
      ::fallocate(file_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                  static_cast<off_t>(size));
    }
    free_[size].push_back(offset);
  }

  std::size_t limit() const { return limit_; }
  std::size_t in_use() {
    const std::scoped_lock lock(mutex_);
    return in_use_;
  }
  std::size_t peak() {
    const std::scoped_lock lock(mutex_);
    return peak_;
  }
  void restart_peak() {
    const std::scoped_lock lock(mutex_);
    peak_ = in_use_;
  }

  bool contains(const void* address) const {
    const auto* p = static_cast<const char*>(address);
    return p >= closed_ && p < closed_ + kCapacity;
  }

  void* opened(const void* address) const {
    if (!address) return nullptr;
    TORCH_CHECK(contains(address), "fake device: ", address, " is not in its memory");
    return open_ + (static_cast<const char*>(address) - closed_);
  }

 private:
  Memory() {
    if (const char* bytes = std::getenv("FAKE_DEVICE_BYTES"))
      limit_ = std::strtoull(bytes, nullptr, 10);
    file_ = ::memfd_create("fake_device", MFD_CLOEXEC);
    const bool sized = file_ >= 0 && ::ftruncate(file_, static_cast<off_t>(kCapacity)) == 0;
    TORCH_CHECK(sized, "fake device: memfd_create: ", std::strerror(errno));
    closed_ = map(PROT_NONE);
    open_ = map(PROT_READ | PROT_WRITE);
  }

  char* map(int access) const {
    void* address = ::mmap(nullptr, kCapacity, access, MAP_SHARED | MAP_NORESERVE, file_, 0);
    TORCH_CHECK(address != MAP_FAILED, "fake device: mmap: ", std::strerror(errno));
    return static_cast<char*>(address);
  }

  static std::string mebibytes(std::size_t bytes) {
    char text[32];
    std::snprintf(text, sizeof text, "%.2f MiB", double(bytes) / (1 << 20));
    return text;
  }

  // Few different sizes, so that what was freed fits again.
  static std::size_t rounded(std::size_t bytes) {
    const std::size_t step = std::max<std::size_t>(64, std::bit_floor(bytes) / 8);
    return (bytes + step - 1) / step * step;
  }

  static void on_fault(int signal, siginfo_t* info, void*) {
    if (instance().contains(info->si_addr)) write_fault_report();
    // What was there before has the word next, by the same instruction.
    ::sigaction(signal, &before_, nullptr);
  }

  // A test framework takes the signal for the time of each test, so it is taken again and again.
  static void report_faults() {
    struct sigaction present{};
    ::sigaction(SIGSEGV, nullptr, &present);
    if ((present.sa_flags & SA_SIGINFO) != 0 && present.sa_sigaction == &on_fault) return;
    struct sigaction own{};
    own.sa_sigaction = &on_fault;
    own.sa_flags = SA_SIGINFO | SA_ONSTACK;
    before_ = present;
    ::sigaction(SIGSEGV, &own, nullptr);
  }

  static inline struct sigaction before_{};

  int file_ = -1;
  char *closed_ = nullptr, *open_ = nullptr;
  std::mutex mutex_;
  std::size_t end_ = 0, in_use_ = 0, peak_ = 0, limit_ = kCapacity;
  std::map<std::size_t, std::vector<std::size_t>> free_;  // size -> offsets
  std::unordered_map<std::size_t, std::size_t> sizes_;    // of what is in use, by offset
};

void release(void* address) { Memory::instance().release(address); }

class DeviceAllocator final : public c10::DeviceAllocator {
 public:
  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t) override {}
  void recordStream(const c10::DataPtr&, c10::Stream) override {}
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex) override {
    c10::CachingDeviceAllocator::DeviceStats stats;
    auto& all =
        stats.allocated_bytes[static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE)];
    all.current = static_cast<std::int64_t>(Memory::instance().in_use());
    all.peak = static_cast<std::int64_t>(Memory::instance().peak());
    return stats;
  }
  void resetAccumulatedStats(c10::DeviceIndex) override {}
  void resetPeakStats(c10::DeviceIndex) override { Memory::instance().restart_peak(); }
  std::pair<std::size_t, std::size_t> getMemoryInfo(c10::DeviceIndex) override {
    const std::size_t limit = Memory::instance().limit();
    return {limit - Memory::instance().in_use(), limit};
  }
  c10::DataPtr allocate(std::size_t bytes) override {
    if (bytes == 0) return {nullptr, device()};
    void* address = Memory::instance().allocate(bytes);
    return {address, address, &release, device()};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    std::memcpy(readable(to), readable(from), bytes);
  }
};

// Ordinary memory that is known by its address.
class Pinned {
 public:
  static Pinned& instance() {
    static auto* pinned = new Pinned();
    return *pinned;
  }
  void add(void* address, std::size_t bytes) {
    const std::scoped_lock lock(mutex_);
    blocks_[static_cast<char*>(address)] = bytes;
  }
  void remove(void* address) {
    const std::scoped_lock lock(mutex_);
    blocks_.erase(static_cast<char*>(address));
  }
  bool contains(const void* address) {
    const std::scoped_lock lock(mutex_);
    auto after = blocks_.upper_bound(static_cast<const char*>(address));
    if (after == blocks_.begin()) return false;
    --after;
    return static_cast<const char*>(address) < after->first + after->second;
  }

 private:
  std::mutex mutex_;
  std::map<const char*, std::size_t, std::less<>> blocks_;
};

void release_pinned(void* address) {
  Pinned::instance().remove(address);
  std::free(address);
}

class PinnedAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    if (bytes == 0) return {nullptr, at::kCPU};
    void* address = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
    TORCH_CHECK(address, "fake device: no ", bytes, " bytes of pinned memory");
    Pinned::instance().add(address, bytes);
    return {address, address, &release_pinned, at::kCPU};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release_pinned; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
};

}  // namespace

void* readable(const void* device_address) { return Memory::instance().opened(device_address); }

c10::Allocator* device_allocator() {
  static auto* allocator = new DeviceAllocator();
  return allocator;
}

void resize_storage(c10::StorageImpl& storage, std::size_t bytes) {
  c10::DataPtr larger = device_allocator()->allocate(bytes);
  if (const std::size_t kept = std::min(bytes, storage.nbytes()); kept > 0)
    std::memcpy(readable(larger.get()), readable(storage.data_ptr().get()), kept);
  storage.set_data_ptr_noswap(std::move(larger));
  storage.set_nbytes(bytes);
}

c10::Allocator* pinned_allocator() {
  static auto* allocator = new PinnedAllocator();
  return allocator;
}

bool is_pinned(const void* host_address) { return Pinned::instance().contains(host_address); }

}  // namespace fake_device
