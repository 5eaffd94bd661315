// Streaming mean and covariance of feature vectors.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>

namespace dkdm::metrics {

// Mean [D] and unbiased covariance [D,D] (divisor n - 1), f64. count 0 = not known (statistics of
// a file that does not say).
struct Gaussian {
  at::Tensor mean, covariance;
  std::int64_t count = 0;
};

// Float64 sums about the running mean (Chan, Golub & LeVeque 1983), the mean kept as the sum of two
// float64: no cancellation however large the mean is against the spread. Memory: two matrices of
// D x D numbers and kBlock vectors, however many come. Vectors are taken in blocks of kBlock, so
// the sizes of the batches change no bit. Everything lies on the CPU. A copy shares nothing.
class Moments {
 public:
  static constexpr std::int64_t kBlock = 256;

  Moments() = default;
  Moments(const Moments& other);
  Moments& operator=(const Moments& other);
  Moments(Moments&&) = default;
  Moments& operator=(Moments&&) = default;

  // features [n,D], any real dtype, any device. Throws std::invalid_argument for another D than
  // before.
  void add(const at::Tensor& features);
  // The moments of both sets together; parts merged in any order agree to rounding (1e-12).
  void merge(const Moments& other);

  std::int64_t count() const { return count_ + waiting_; }
  // Needs at least two vectors; throws std::invalid_argument.
  Gaussian gaussian() const;

  // All that it holds, for a file or another process: from_state(state()) goes on to the bit.
  // Tensors "count" i64 [], "mean" and "mean_low" f64 [D], "scatter" f64 [D,D], "waiting" f64
  // [m,D].
  using State = std::map<std::string, at::Tensor>;
  State state() const;
  // Throws std::invalid_argument naming a key that is missing or of another shape or type.
  static Moments from_state(const State& state);

 private:
  void flush();
  void combine(std::int64_t count, const at::Tensor& mean, const at::Tensor& mean_low);
  void require_dimension(std::int64_t dimension) const;

  std::int64_t count_ = 0;      // vectors in the three sums
  at::Tensor mean_, mean_low_;  // [D]: the mean is their sum
  at::Tensor scatter_;          // [D,D]: sum of (x - mean)(x - mean)^T
  at::Tensor block_;            // [kBlock,D]: its first waiting_ vectors are not in the sums yet
  std::int64_t waiting_ = 0;
};

}  // namespace dkdm::metrics
