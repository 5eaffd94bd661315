// Fréchet distance of Gaussians: FID (Heusel et al. 2017) of pooled features, sFID of spatial ones.
#pragma once

#include "metrics/moments.hpp"

namespace dkdm::metrics {

// One side of distances, prepared once: what bootstrap, FID at several counts and several sample
// sets are measured against.
class FrechetReference {
 public:
  // Throws std::invalid_argument for values that are not finite and for a matrix that is no
  // covariance (an eigenvalue below zero by more than rounding).
  explicit FrechetReference(const Gaussian& reference);

  // |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^1/2 in f64. With S = F F^T (pivoted Cholesky, so
  // of S's numerical rank) the last trace is the nuclear norm of F1^T F2: always real, never NaN,
  // no jitter, rank-deficient covariances welcome, error about 1e-15 of tr S1 + tr S2 where a
  // square root of the product loses half the digits. Equal Gaussians give a value within that
  // rounding of zero, on either side; it is returned as it is. Throws std::invalid_argument as
  // above, and for another dimension.
  double distance(const Gaussian& other) const;

 private:
  at::Tensor mean_, factor_;  // [D], [D,rank]
  double trace_ = 0;
};

// The same for a single pair; 2048 dimensions take about as long as ten matrix products.
double frechet_distance(const Gaussian& a, const Gaussian& b);

}  // namespace dkdm::metrics
