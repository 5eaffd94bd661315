// Seconds: that have passed, and since 1970.
#pragma once

#include <chrono>

namespace dkdm::record {

using Clock = std::chrono::steady_clock;  // nothing that sets the time is seen

inline double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

inline double unix_time() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace dkdm::record
