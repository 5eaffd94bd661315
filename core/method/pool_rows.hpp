// x of a batch set's rows, on the device or in the host's memory.
#pragma once

#include <c10/core/Event.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <unordered_map>
#include <utility>

#include "dkdm/batch_set.hpp"

namespace dkdm {

// On the host, rows that are needed next go to the device while it is at something else, and those
// that it has changed come back while it goes on: nobody waits. What has not come back yet is taken
// from where it still is. The memory of a set may be gigabytes and is not pinned itself; what
// travels is.
class BatchSet::Rows {
 public:
  Rows(const SampleShape& shape, std::int64_t capacity, at::Device device, bool on_host);

  c10::IntArrayRef sizes() const { return x_.sizes(); }
  // Rows 0 … n-1 := x [n,C,H,W], anywhere.
  void fill(const at::Tensor& x);
  // Rows `rows` (int64 [n], on the CPU; `there`: the same on the device) as f32 [n,C,H,W] on the
  // device.
  at::Tensor gather(const at::Tensor& rows, const at::Tensor& there);
  // Rows `rows` := x on the device.
  void put(const at::Tensor& rows, const at::Tensor& there, const at::Tensor& x);
  // Rows `rows` := x on the CPU.
  void replace(const at::Tensor& rows, const at::Tensor& x);
  // `rows` are what the next `gather` asks for.
  void expect(const at::Tensor& rows);
  // Rows 0 … n-1, a view; waits for those on their way.
  at::Tensor first(std::int64_t n);

 private:
  // Rows on their way back to the host.
  struct Returning {
    at::Tensor rows, x, staged;  // int64 [n] on the CPU; on the device; pinned
    c10::Event arrived;
  };

  at::Tensor fetched(const at::Tensor& rows);
  void take_returned(bool wait);

  const at::Device device_;
  const bool on_host_;
  at::Tensor x_;  // [capacity,C,H,W], channels-last
  std::deque<Returning> returning_;
  // A row whose value is not in x_ yet: number of what it returns with, and its place there.
  std::unordered_map<std::int64_t, std::pair<std::int64_t, std::int64_t>> newest_;
  std::int64_t first_number_ = 0;  // of returning_'s first
  at::Tensor expected_, ahead_;    // rows of `expect`, and their values; undefined = none
};

}  // namespace dkdm
