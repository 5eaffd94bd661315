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

  // |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^1/2 in f64, as a sum of squares
  // |m1 - m2|^2 + |F1 U - F2|^2 over factors of the covariances' numerical ranks: never below zero,
  // complex or NaN, no jitter, rank-deficient covariances welcome. The root of the value is right
  // to about 1e-15 of that of tr S1 + tr S2, so nearly equal Gaussians keep half their digits more
  // than a difference of traces would. Throws std::invalid_argument as above, and for another
  // dimension.
  double distance(const Gaussian& other) const;

 private:
  at::Tensor mean_, factor_;  // [D], [D,rank]
};

// The same for a single pair; 2048 dimensions take as long as twenty matrix products.
double frechet_distance(const Gaussian& a, const Gaussian& b);

}  // namespace dkdm::metrics
