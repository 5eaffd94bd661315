// Signal handlers: only what is safe inside one (lock-free flag, write, _exit).
#include "cli/signals.hpp"

#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <string_view>

namespace dkdm::cli {

std::atomic<bool> stop_requested{false};

namespace {

// One request may come as several signals: timeout(1), for one, sends the program its signal and
// then the whole group, and schedulers do so too. A person's second Ctrl-C comes later.
constexpr std::int64_t kSameRequest_ms = 300;
std::atomic<std::int64_t> first_ms{0};  // 0 = none yet

std::int64_t now_ms() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

void on_signal(int) {
  const std::int64_t now = now_ms();
  std::int64_t first = 0;
  if (!first_ms.compare_exchange_strong(first, now)) {
    if (now - first < kSameRequest_ms) return;
    _exit(130);
  }
  stop_requested = true;
  constexpr std::string_view line =
      "\ndkdm: stopping at the next safe point (press Ctrl-C again to stop immediately)\n";
  // Nothing can be done about a closed stderr.
  [[maybe_unused]] const auto written = write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace

void install_signal_handlers() {
  static_assert(std::atomic<bool>::is_always_lock_free);
  static_assert(std::atomic<std::int64_t>::is_always_lock_free);
  struct sigaction action{};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

}  // namespace dkdm::cli
