// Definition: spread.hpp.
#include "metrics/spread.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace dkdm::metrics {
namespace {

constexpr std::int64_t kBlock = 2048;  // vectors whose f64 copies exist at once

// Linear between the order statistics, as numpy.quantile's default.
double quantile(const std::vector<double>& sorted, double share) {
  const double place = share * double(sorted.size() - 1);
  const auto below = std::size_t(place);
  const auto above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (place - double(below)) * (sorted[above] - sorted[below]);
}

}  // namespace

Spread spread(const std::vector<double>& values) {
  if (values.empty()) throw std::invalid_argument("no values");
  const double count = double(values.size());
  Spread result{0, 0, std::int64_t(values.size())};
  for (const double value : values) result.mean += value / count;
  if (values.size() == 1) return result;
  for (const double value : values)
    result.deviation += (value - result.mean) * (value - result.mean) / (count - 1);
  result.deviation = std::sqrt(result.deviation);
  return result;
}

Extrapolation extrapolate(const std::vector<std::int64_t>& counts,
                          const std::vector<double>& values) {
  if (counts.size() != values.size())
    throw std::invalid_argument(std::to_string(counts.size()) + " counts for " +
                                std::to_string(values.size()) + " values");
  std::vector<double> x;
  for (const std::int64_t count : counts) {
    if (count < 1) throw std::invalid_argument("a count of " + std::to_string(count));
    x.push_back(1 / double(count));
  }
  if (x.empty() || std::all_of(counts.begin(), counts.end(),
                               [&](std::int64_t count) { return count == counts.front(); }))
    throw std::invalid_argument("a line needs values at two different counts at least");
  const double x_mean = spread(x).mean, y_mean = spread(values).mean, points = double(x.size());
  double xx = 0, xy = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    xx += (x[i] - x_mean) * (x[i] - x_mean);
    xy += (x[i] - x_mean) * (values[i] - y_mean);
  }
  Extrapolation line;
  line.slope = xy / xx;
  line.intercept = y_mean - line.slope * x_mean;
  if (x.size() == 2) return line;
  double residual = 0;
  for (std::size_t i = 0; i < x.size(); ++i)
    residual += std::pow(values[i] - line.intercept - line.slope * x[i], 2);
  line.error = std::sqrt(residual / (points - 2) * (1 / points + x_mean * x_mean / xx));
  return line;
}

std::vector<std::int64_t> evenly_spaced(std::int64_t least, std::int64_t all, std::int64_t points) {
  if (least < 2 || least >= all || points < 2)
    throw std::invalid_argument(std::to_string(points) + " counts from " + std::to_string(least) +
                                " to " + std::to_string(all));
  std::vector<std::int64_t> counts;
  for (std::int64_t i = 0; i < points; ++i)
    counts.push_back(least + (all - least) * i / (points - 1));
  return counts;
}

std::vector<double> frechet_at_counts(const at::Tensor& features, const FrechetReference& reference,
                                      const std::vector<std::int64_t>& counts, const Draw& draw) {
  std::vector<double> values;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    Moments moments;
    for (const auto& indices : draw(std::int64_t(i), counts[i]).split(kBlock))
      moments.add(features.index_select(0, indices));
    values.push_back(reference.distance(moments.gaussian()));
  }
  return values;
}

Interval bootstrap(double value, std::int64_t count, std::int64_t resamples, double confidence,
                   const Draw& draw, const std::function<double(const at::Tensor&)>& statistic) {
  if (resamples < 2 || confidence <= 0 || confidence >= 1)
    throw std::invalid_argument("a bootstrap of " + std::to_string(resamples) +
                                " resamples at confidence " + std::to_string(confidence) +
                                "; expected at least 2, and a confidence between 0 and 1");
  std::vector<double> values;
  for (std::int64_t r = 0; r < resamples; ++r) values.push_back(statistic(draw(r, count)));
  const Spread about = spread(values);
  std::sort(values.begin(), values.end());
  const double tail = (1 - confidence) / 2, shift = value - about.mean;
  return {quantile(values, tail) + shift, quantile(values, 1 - tail) + shift, about.deviation};
}

Gaussian resampled_gaussian(const at::Tensor& features, const at::Tensor& indices) {
  const auto times = at::bincount(indices, {}, features.size(0));
  const auto drawn = times.nonzero().flatten();
  const double count = double(indices.size(0));
  const auto each_block = [&](const auto& visit) {
    for (const auto& rows : drawn.split(kBlock))
      visit(features.index_select(0, rows).to(at::kDouble),
            times.index_select(0, rows).to(at::kDouble).unsqueeze(1));
  };
  auto mean = at::zeros({features.size(1)}, at::kDouble);
  each_block([&](const at::Tensor& x, const at::Tensor& weight) {
    mean.add_(x.mul(weight).sum(0), 1 / count);
  });
  auto scatter = at::zeros({features.size(1), features.size(1)}, at::kDouble);
  each_block([&](const at::Tensor& x, const at::Tensor& weight) {
    const auto weighted = x.sub(mean).mul_(weight.sqrt());
    scatter.addmm_(weighted.t(), weighted);
  });
  return {mean, scatter.div_(count - 1), indices.size(0)};
}

}  // namespace dkdm::metrics
