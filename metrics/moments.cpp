// Update of two parts: Chan, Golub & LeVeque 1983, eq. 2.1.
#include "metrics/moments.hpp"

#include <ATen/ATen.h>

#include <stdexcept>
#include <string>

namespace dkdm::metrics {

void Moments::add(const at::Tensor& features) {
  if (features.size(0) == 0) return;
  const auto x = features.to(at::kDouble);
  const auto mean = x.mean(0);
  const auto centred = x - mean;
  merge(x.size(0), mean, centred.t().mm(centred));
}

void Moments::merge(const Moments& other) {
  if (other.count_ > 0) merge(other.count_, other.mean_, other.scatter_);
}

void Moments::merge(std::int64_t count, const at::Tensor& mean, const at::Tensor& scatter) {
  if (count_ == 0) {
    count_ = count;
    mean_ = mean.clone();
    scatter_ = scatter.clone();
    return;
  }
  if (mean.size(0) != mean_.size(0))
    throw std::invalid_argument("feature dimensions differ: " + std::to_string(mean_.size(0)) +
                                " and " + std::to_string(mean.size(0)));
  const double total = double(count_ + count);
  const auto delta = mean - mean_;
  mean_ = mean_ + delta * (double(count) / total);
  scatter_ = scatter_ + scatter +
             at::outer(delta, delta) * (double(count_) * double(count) / total);
  count_ += count;
}

Gaussian Moments::gaussian() const {
  if (count_ < 2)
    throw std::invalid_argument("a covariance needs at least 2 vectors, there are " +
                                std::to_string(count_));
  return {mean_, scatter_ / double(count_ - 1), count_};
}

}  // namespace dkdm::metrics
