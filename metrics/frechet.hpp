// Fréchet distance of Gaussians: FID (Heusel et al. 2017) of pooled features, sFID of spatial ones.
#pragma once

#include "metrics/moments.hpp"

namespace dkdm::metrics {

// |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1^1/2 S2 S1^1/2)^1/2, in f64 by two symmetric
// eigendecompositions: always real, never NaN, no jitter, rank-deficient covariances welcome.
// Eigenvalues below zero by rounding count as zero. Equal Gaussians give a value within rounding of
// zero, on either side; it is returned as it is. Throws std::invalid_argument for different
// dimensions, values that are not finite, and a result more negative than rounding explains (the
// matrices were no covariances).
double frechet_distance(const Gaussian& a, const Gaussian& b);

}  // namespace dkdm::metrics
