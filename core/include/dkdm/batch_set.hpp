// The set of states that the teacher walks on while the student learns (paper Algorithm 1). States
// and random numbers' keys: dkdm/denoising.hpp. Threads: one at a time.
#pragma once

#include <cstdint>
#include <memory>

#include "dkdm/method.hpp"

namespace dkdm {

enum class TeacherClip;

// The batch set: rows of (x, s) that the teacher takes one step further whenever they are drawn.
class DKDM_API BatchSet {
 public:
  // x lies on `device`, where the teacher is, or with `on_host` in pinned memory of the host, for a
  // set that the device has no room for. States and what is drawn stay on the CPU: they follow from
  // (seed, step) alone, and asking the device for them would make the host wait.
  BatchSet(const GaussianDiffusion& chain, const SampleShape& shape, std::uint64_t seed,
           std::int64_t capacity, TeacherClip clip, at::Device device = at::kCPU,
           bool on_host = false);
  ~BatchSet();

  std::int64_t rows() const { return rows_; }
  // Rows 0 … n-1 at x [n,C,H,W] and states [n]; a row's first pass ends at ends[n] (absent: 0).
  void fill(const at::Tensor& x, const at::Tensor& states, const at::Tensor& ends = {});
  // Rows 0 … n-1 as pure noise; `ends` as above.
  void fill_with_noise(std::int64_t n, const at::Tensor& ends = {});

  // One teacher step on the distinct rows `drawn` (int64 [n], on the CPU) at training step `step`.
  // A drawn row whose pass is over starts again from fresh noise first (a finished image waits
  // until drawn). The results replace their rows; while the set has fewer rows than its capacity
  // they are appended instead and their origins stay.
  TrainBatch advance(Denoiser& teacher, const at::Tensor& drawn, std::int64_t step);
  // Says what the next `advance` will draw, so that rows on the host are on their way by then.
  void expect(const at::Tensor& drawn);

  TensorMap state() const;  // views: it may be gigabytes
  void restore(const TensorMap& state);

 private:
  const GaussianDiffusion* chain_;
  SampleShape shape_;
  std::uint64_t seed_;
  std::int64_t capacity_, rows_ = 0;
  TeacherClip clip_;
  void restart(const at::Tensor& rows);

  at::Device device_;
  class Rows;                      // x of the rows, wherever they lie
  std::unique_ptr<Rows> x_;        // [capacity,C,H,W], channels-last
  at::Tensor s_, end_, restarts_;  // int64 [capacity]
};

}  // namespace dkdm
