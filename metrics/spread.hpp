// What a paper says beside a metric: its bias with the sample count, its spread.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "metrics/frechet.hpp"

namespace dkdm::metrics {

// Several values of one metric (independent sample sets): deviation with divisor n - 1 (0 for one
// value). Throws std::invalid_argument when there are none.
struct Spread {
  double mean = 0, deviation = 0;
  std::int64_t count = 0;
};
Spread spread(const std::vector<double>& values);

// Ordinary least squares of values against 1/count, and what it says at 1/count = 0 (Chong &
// Forsyth 2020, "Effectively unbiased FID and Inception Score"). error: standard error of the
// intercept under independent residuals (0 with two points). Throws std::invalid_argument for fewer
// than two different counts.
struct Extrapolation {
  double intercept = 0, slope = 0, error = 0;
};
Extrapolation extrapolate(const std::vector<std::int64_t>& counts,
                          const std::vector<double>& values);

// `points` counts evenly spaced from `least` to `all`, rounded down (the paper: 15 from 5000).
// Throws std::invalid_argument unless 2 <= least < all and points >= 2.
std::vector<std::int64_t> evenly_spaced(std::int64_t least, std::int64_t all, std::int64_t points);

// int64 [count] indices of the subset or resample that is drawn at `step`.
using Draw = std::function<at::Tensor(std::int64_t step, std::int64_t count)>;

// Distance of features [N,D] to the reference at each of `counts`; point i takes the vectors
// draw(i, counts[i]), distinct ones. FID∞ is extrapolate(counts, these).intercept. Cost: a distance
// a point, and 2 D^2 operations a vector drawn: of 50,000 vectors of 2048, 15 points are about 30
// distances' worth. The features stay in memory.
std::vector<double> frechet_at_counts(const at::Tensor& features, const FrechetReference& reference,
                                      const std::vector<std::int64_t>& counts, const Draw& draw);

// Spread of a statistic of `count` samples by resampling them with replacement (Efron 1979).
// A resample holds repeats, which biases FID and IS as fewer samples do; so the interval is of the
// deviations about the resamples' mean, laid at the value itself: it says how far values of other
// sample sets of this size would lie, and nothing about the bias.
struct Interval {
  double low = 0, high = 0;  // about `value`
  double deviation = 0;      // of the resamples, divisor resamples - 1
};
// statistic(indices int64 [count]) for resamples 0 … resamples-1; draw(r, count) with replacement.
// confidence in (0,1), e.g. 0.95; quantiles interpolated linearly. Throws std::invalid_argument for
// fewer than 2 resamples.
Interval bootstrap(double value, std::int64_t count, std::int64_t resamples, double confidence,
                   const Draw& draw, const std::function<double(const at::Tensor&)>& statistic);

// Moments of a resample of features [N,D], exact: a vector that `indices` (int64 [n]) names w times
// counts w times, and is read once, so that a resample costs about 1.3 N D^2 operations. The
// statistic of FID is a reference's distance to it. The features stay in memory.
Gaussian resampled_gaussian(const at::Tensor& features, const at::Tensor& indices);

}  // namespace dkdm::metrics
