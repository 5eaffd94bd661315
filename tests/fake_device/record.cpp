#include "fake_device/record.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <mutex>

#include "fake_device/fake_device.hpp"
#include "fake_device/graph.hpp"

namespace fake_device {
namespace {

struct Record {
  std::mutex mutex;
  Counters counters;
};

Record& record() {
  static auto* all = new Record();
  return *all;
}

// Plain memory, which the handler of a signal may read.
thread_local char last_operator[128] = "";
thread_local bool inside = false;
thread_local bool replaying = false;

void add(Transfers& transfers, std::size_t bytes, bool blocking) {
  ++transfers.calls;
  transfers.bytes += static_cast<std::int64_t>(bytes);
  if (blocking) ++transfers.blocking;
}

void write_text(const char* text) {
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text, std::strlen(text));
}

}  // namespace

void count_to_device(std::size_t bytes, bool blocking) {
  refuse_in_recording("a copy from the host");
  const std::scoped_lock lock(record().mutex);
  add(record().counters.to_device, bytes, blocking);
}

void count_to_host(std::size_t bytes, bool blocking) {
  refuse_in_recording("a copy to the host");
  const std::scoped_lock lock(record().mutex);
  add(record().counters.to_host, bytes, blocking);
}

void count_wait(const std::string& cause) {
  refuse_in_recording("waiting for the device (" + cause + ")");
  const std::scoped_lock lock(record().mutex);
  ++record().counters.waits[cause];
}

Running::Running(const std::string& name) : outermost_(!inside) {
  if (!outermost_) return;
  inside = true;
  const std::size_t length = std::min(name.size(), sizeof last_operator - 1);
  std::memcpy(last_operator, name.data(), length);
  last_operator[length] = '\0';
  const std::scoped_lock lock(record().mutex);
  record().counters.operators.insert(name);
  if (!replaying) ++record().counters.launches;
}

Running::~Running() {
  if (outermost_) inside = false;
}

Replaying::Replaying() {
  replaying = true;
  const std::scoped_lock lock(record().mutex);
  ++record().counters.launches;
}
Replaying::~Replaying() { replaying = false; }

void write_fault_report() {
  write_text("fake device: host code touched device memory, ");
  write_text(inside ? "inside " : "after ");
  write_text(last_operator[0] ? last_operator : "no operator of this thread");
  write_text("\n");
}

std::int64_t Counters::synchronisations() const {
  std::int64_t sum = 0;
  for (const auto& [cause, count] : waits) sum += count;
  return sum;
}

Counters counters() {
  const std::scoped_lock lock(record().mutex);
  return record().counters;
}

void reset_counters() {
  const std::scoped_lock lock(record().mutex);
  record().counters = {};
}

}  // namespace fake_device
