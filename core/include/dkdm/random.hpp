// Counter-based random numbers (Philox4x32-10; Salmon et al., SC 2011). A number is a pure function
// of (seed, stream, step, sample, element), so what sample i of a run sees never depends on batch
// size, thread count, rank or on what was drawn before; and there is no state to save. Threads:
// any.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>

#include "dkdm/error.hpp"

namespace dkdm {

// What a number is for. Values are part of every result: never renumber.
enum class Stream : std::uint32_t {
  initialise = 1,   // weights
  minibatch = 2,    // choice and order of images or rows
  timestep = 3,     // t of a training example
  train_noise = 4,  // eps of q_sample
  dropout = 5,
  augment = 6,       // random flips
  sample_start = 7,  // x_T of a sample
  sample_noise = 8,  // z of a sampling step
  pool_start = 9,    // x_T of a batch-set row
  pool_noise = 10,   // z of a teacher step on a batch-set row
  pool_state = 11,   // initial time step of a batch-set row
  pool_choice = 12,  // rows drawn for a training step
  evaluator = 13,
  bootstrap = 14,
  layer = 15,  // what a network's own layers draw (nn::RandomLayer)
};

class DKDM_API Random {
 public:
  Random(std::uint64_t seed, Stream stream);

  // Four 32-bit words at (step, sample, block).
  std::array<std::uint32_t, 4> words(std::uint32_t step, std::uint64_t sample,
                                     std::uint32_t block) const;

  // Standard normal f32 [n, shape…]: row r is that of sample index[r] (int64 [n]) at `step`.
  at::Tensor normal(std::uint32_t step, const at::Tensor& index, at::IntArrayRef shape) const;
  // The same for the samples first … first+count-1.
  at::Tensor normal(std::uint32_t step, std::int64_t first, std::int64_t count,
                    at::IntArrayRef shape) const;

  // Uniform f64 in [0,1), one a sample: [n] for first … first+count-1.
  at::Tensor uniform(std::uint32_t step, std::int64_t first, std::int64_t count) const;
  // Uniform integers 0 … bound-1, int64 [count], unbiased to 2^-32. bound in 1 … 2^32.
  at::Tensor integers(std::uint32_t step, std::int64_t first, std::int64_t count,
                      std::int64_t bound) const;

  // `count` distinct integers of 0 … n-1 in random order, int64 [count] (Fisher-Yates; count = n is
  // a permutation). Depends on step alone.
  at::Tensor choice(std::uint32_t step, std::int64_t n, std::int64_t count) const;

  // Dropout mask f32 [n, shape…] of 0 and 1/(1-p), row r for sample first+r; `layer` separates the
  // masks of one step. p in [0,1), quantised to 1/65536. Memory order is channels-last for
  // 4-D results; values belong to (sample, logical NHWC position), whatever the format.
  at::Tensor dropout_mask(std::uint32_t step, std::uint32_t layer, std::int64_t first,
                          at::IntArrayRef sizes, double p) const;

 private:
  std::uint32_t key0_, key1_;
};

}  // namespace dkdm
