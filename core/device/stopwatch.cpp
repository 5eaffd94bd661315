#include "device/stopwatch.hpp"

#include <c10/core/impl/VirtualGuardImpl.h>

namespace dkdm::device {

c10::Event Stopwatch::now() const {
  // Of LibTorch's flags the one whose events keep the time.
  c10::Event event(device_.type(), c10::EventFlag::BACKEND_DEFAULT);
  event.record(c10::impl::VirtualGuardImpl(device_.type()).getStream(device_));
  return event;
}

void Stopwatch::add(const Interval& interval) {
  constexpr double kMilliseconds = 1e-3;
  seconds_ += kMilliseconds * interval.first.elapsedTime(interval.second);
}

void Stopwatch::begin() {
  if (device_.is_cpu()) begun_ = record::Clock::now();
  else open_.emplace_back(now(), c10::Event(device_.type(), c10::EventFlag::BACKEND_DEFAULT));
}

void Stopwatch::end() {
  if (device_.is_cpu()) {
    seconds_ += record::seconds_since(begun_);
    return;
  }
  open_.back().second = now();
  for (; open_.size() > 1 && open_.front().second.query(); open_.pop_front()) add(open_.front());
}

double Stopwatch::seconds() {
  for (; !open_.empty(); open_.pop_front()) {
    open_.front().second.synchronize();
    add(open_.front());
  }
  return seconds_;
}

}  // namespace dkdm::device
