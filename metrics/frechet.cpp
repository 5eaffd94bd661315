// Definition: frechet.hpp.
#include "metrics/frechet.hpp"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

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
  const auto eigenvalues = at::linalg_eigvalsh(product, "L").clamp_min(0);
  const double cross = eigenvalues.sqrt().sum().item<double>();
  const double traces =
      a.covariance.trace().item<double>() + b.covariance.trace().item<double>();
  const double distance = (a.mean - b.mean).square().sum().item<double>() + traces - 2 * cross;

  // An eigenvalue is known to about epsilon times the largest one, so where it should be zero its
  // root is wrong by up to sqrt(epsilon * largest): at worst that for every dimension.
  const double epsilon = std::numeric_limits<double>::epsilon();
  const double largest = eigenvalues.max().item<double>();
  const double rounding = 2.0 * double(a.mean.size(0)) * std::sqrt(epsilon * largest) +
                          1e-12 * std::abs(traces);
  if (distance < -rounding)
    throw std::invalid_argument("the Fréchet distance is " + std::to_string(distance) +
                                ": not of two covariance matrices");
  return distance;
}

}  // namespace dkdm::metrics
