#include "metrics/frechet.hpp"

#include <ATen/ATen.h>

#include <stdexcept>

namespace dkdm::metrics {
namespace {

at::Tensor symmetric_root(const at::Tensor& matrix) {
  const auto [values, vectors] = at::linalg_eigh(matrix, "L");
  return vectors.mul(values.clamp_min(0).sqrt()).mm(vectors.t());
}

void check_finite(const Gaussian& gaussian) {
  if (!gaussian.mean.isfinite().all().item<bool>() ||
      !gaussian.covariance.isfinite().all().item<bool>())
    throw std::invalid_argument("a mean or covariance is not finite");
}

}  // namespace

double frechet_distance(const Gaussian& a, const Gaussian& b) {
  if (a.mean.size(0) != b.mean.size(0))
    throw std::invalid_argument("feature dimensions differ: " + std::to_string(a.mean.size(0)) +
                                " and " + std::to_string(b.mean.size(0)));
  check_finite(a);
  check_finite(b);
  const auto root = symmetric_root(a.covariance);
  auto product = root.mm(b.covariance).mm(root);
  product = (product + product.t()) / 2;
  const auto eigenvalues = at::linalg_eigvalsh(product, "L");
  const double cross = eigenvalues.clamp_min(0).sqrt().sum().item<double>();
  return (a.mean - b.mean).square().sum().item<double>() +
         a.covariance.trace().item<double>() + b.covariance.trace().item<double>() - 2 * cross;
}

}  // namespace dkdm::metrics
