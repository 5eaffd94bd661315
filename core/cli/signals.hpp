// Ctrl-C and SIGTERM: the first asks for a stop at the next safe point, the second exits at once.
#pragma once

#include <atomic>

namespace dkdm::cli {

// Set by the first signal. Long work polls it and throws dkdm::Interrupted.
extern std::atomic<bool> stop_requested;

void install_signal_handlers();

}  // namespace dkdm::cli
