// Signal handlers: only what is safe inside one (lock-free flag, write, _exit).
#include "cli/signals.hpp"

#include <signal.h>
#include <unistd.h>

#include <string_view>

namespace dkdm::cli {

std::atomic<bool> stop_requested{false};

namespace {

void on_signal(int) {
  if (stop_requested.exchange(true)) _exit(130);
  constexpr std::string_view line = "\ndkdm: stopping at the next safe point (press Ctrl-C again to stop immediately)\n";
  // Nothing can be done about a closed stderr.
  [[maybe_unused]] const auto written = write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace

void install_signal_handlers() {
  static_assert(std::atomic<bool>::is_always_lock_free);
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

}  // namespace dkdm::cli
