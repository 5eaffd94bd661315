// When a covariance's diagonal is below zero by rounding alone, for its readers and its users.
#pragma once

#include <ATen/ATen.h>

#include <cstdio>
#include <string>

namespace dkdm {

// Of a variance: what rounding of float32 sums or of an f32 file explains; below it, the matrix is
// not a valid covariance.
inline constexpr double kRoundedVariance = 1e-3;

// What is wrong with the variances [D] f64 of a covariance matrix: "variance of feature 17 is
// -1.9". "" where all are above zero but for rounding: E[x x] - E[x] E[x] of a feature that is
// constant leaves -1e-16 in float64 and -1e-7 in float32, where features vary by about 1.
inline std::string variance_fault(const at::Tensor& variances) {
  if (variances.numel() == 0) return "";
  const auto feature = variances.argmin().item<std::int64_t>();
  const double least = variances[feature].item<double>();
  if (least >= -kRoundedVariance * variances.abs().mean().item<double>()) return "";
  char number[32];
  std::snprintf(number, sizeof number, "%.3g", least);
  return "variance of feature " + std::to_string(feature) + " is " + number;
}

}  // namespace dkdm
