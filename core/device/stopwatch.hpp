// Seconds that a device was at something, measured without making the host wait for it.
#pragma once

#include <c10/core/Event.h>

#include <deque>
#include <utility>

#include "record/clock.hpp"

namespace dkdm::device {

class Stopwatch {
 public:
  explicit Stopwatch(at::Device device) : device_(device) {}

  // Around work that is handed to the device, one after the other.
  void begin();
  void end();

  // Of all that was begun and ended; waits for what is not done yet.
  double seconds();

 private:
  using Interval = std::pair<c10::Event, c10::Event>;
  c10::Event now() const;
  void add(const Interval& interval);

  at::Device device_;
  double seconds_ = 0;
  record::Clock::time_point begun_{};  // on the CPU, which works while it is asked to
  std::deque<Interval> open_;          // elsewhere: not yet known to be over
};

}  // namespace dkdm::device
