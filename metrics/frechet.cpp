// With S = F F^T, tr S1 + tr S2 - 2 tr (S1 S2)^1/2 is the least |F1 U - F2|^2 over isometries U
// (Bhatia, Jain & Lim 2019, theorem 1): the product's eigenvalues are the squares of the singular
// values of F1^T F2, whose sum is tr U^T F1^T F2 at the U nearest to F1^T F2.
#include "metrics/frechet.hpp"

#include <ATen/ATen.h>

#include <stdexcept>
#include <string>

#include "metrics/factor.hpp"

namespace dkdm::metrics {

FrechetReference::FrechetReference(const Gaussian& reference)
    : mean_(reference.mean.to(at::kCPU, at::kDouble)),
      factor_(covariance_factor(reference.covariance)) {
  if (!mean_.isfinite().all().item<bool>()) throw std::invalid_argument("a mean is not finite");
}

double FrechetReference::distance(const Gaussian& other) const {
  const FrechetReference side(other);
  if (side.mean_.size(0) != mean_.size(0))
    throw std::invalid_argument("feature dimensions differ: " + std::to_string(mean_.size(0)) +
                                " and " + std::to_string(side.mean_.size(0)));
  const bool wider = factor_.size(1) >= side.factor_.size(1);
  const auto& wide = wider ? factor_ : side.factor_;
  const auto& narrow = wider ? side.factor_ : factor_;
  const auto isometry = nearest_isometry(wide.t().mm(narrow));
  const auto turned = wide.mm(isometry);
  auto squares = (mean_ - side.mean_).square().sum() + (turned - narrow).square().sum();
  // What of the wide factor the isometry does not reach.
  if (wide.size(1) > narrow.size(1)) squares += (wide - turned.mm(isometry.t())).square().sum();
  return squares.item<double>();
}

double frechet_distance(const Gaussian& a, const Gaussian& b) {
  return FrechetReference(a).distance(b);
}

}  // namespace dkdm::metrics
