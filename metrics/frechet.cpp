// tr (S1 S2)^1/2 with S = F F^T is the sum of the singular values of F1^T F2: the product's
// eigenvalues are their squares, so nothing is lost to a root of a rounded zero.
#include "metrics/frechet.hpp"

#include <ATen/ATen.h>

#include <stdexcept>
#include <string>

#include "metrics/factor.hpp"

namespace dkdm::metrics {

FrechetReference::FrechetReference(const Gaussian& reference)
    : mean_(reference.mean.to(at::kDouble)), factor_(covariance_factor(reference.covariance)) {
  if (!mean_.isfinite().all().item<bool>()) throw std::invalid_argument("a mean is not finite");
  trace_ = reference.covariance.to(at::kDouble).trace().item<double>();
}

double FrechetReference::distance(const Gaussian& other) const {
  const FrechetReference side(other);
  if (side.mean_.size(0) != mean_.size(0))
    throw std::invalid_argument("feature dimensions differ: " + std::to_string(mean_.size(0)) +
                                " and " + std::to_string(side.mean_.size(0)));
  const double means = (mean_ - side.mean_).square().sum().item<double>();
  return means + trace_ + side.trace_ - 2 * singular_value_sum(factor_.t().mm(side.factor_));
}

double frechet_distance(const Gaussian& a, const Gaussian& b) {
  return FrechetReference(a).distance(b);
}

}  // namespace dkdm::metrics
