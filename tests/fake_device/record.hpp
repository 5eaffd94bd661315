// What the fake device noticed: operators, transfers, waits; and which operator a thread is in.
#pragma once

#include <cstddef>
#include <string>

namespace fake_device {

void count_to_device(std::size_t bytes, bool blocking);
void count_to_host(std::size_t bytes, bool blocking);
void count_wait(const std::string& cause);

// This thread is inside the operator of this name while it lives.
class Running {
 public:
  explicit Running(const std::string& name);
  ~Running();
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

 private:
  bool outermost_;
};

// This thread does recorded work again while it lives: one launch, whatever operators there are.
class Replaying {
 public:
  Replaying();
  ~Replaying();
  Replaying(const Replaying&) = delete;
  Replaying& operator=(const Replaying&) = delete;
};

// To stderr: that host code touched device memory, and after or in which operator. Safe in the
// handler of a signal.
void write_fault_report();

}  // namespace fake_device
