// Streaming mean and covariance of feature vectors.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace dkdm::metrics {

// Mean [D] and unbiased covariance [D,D] (divisor n - 1), f64.
struct Gaussian {
  at::Tensor mean, covariance;
  std::int64_t count = 0;
};

// Float64 sums about the running mean (Chan, Golub & LeVeque 1983): no cancellation however large
// the mean is, memory of D x D numbers however many vectors come, and parts merge.
class Moments {
 public:
  // features [n,D], any real dtype. Throws std::invalid_argument for another D than before.
  void add(const at::Tensor& features);
  void merge(const Moments& other);

  std::int64_t count() const { return count_; }
  // Needs at least two vectors; throws std::invalid_argument.
  Gaussian gaussian() const;

 private:
  void merge(std::int64_t count, const at::Tensor& mean, const at::Tensor& scatter);

  std::int64_t count_ = 0;
  at::Tensor mean_;     // [D]
  at::Tensor scatter_;  // [D,D]: sum of (x - mean)(x - mean)^T
};

}  // namespace dkdm::metrics
