// From what is kept of the samples to the metrics of the evaluator `inception`.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <string>
#include <utility>
#include <vector>

#include "dkdm/evaluator.hpp"
#include "dkdm/numpy_choice.hpp"
#include "dkdm/random.hpp"
#include "metrics/frechet.hpp"
#include "metrics/inception_score.hpp"
#include "metrics/precision_recall.hpp"
#include "metrics/spread.hpp"

namespace dkdm::evaluators {

inline constexpr std::int64_t kSplit = 5000;         // consecutive samples of one split of IS
inline constexpr std::int64_t kShuffledSplits = 10;  // torch-fidelity's rule …
inline constexpr std::uint32_t kShuffleSeed = 2020;  // … and its seed
inline constexpr std::int64_t kCounts = 15, kLeastCount = 5000;  // of fid_inf
inline constexpr double kConfidence = 0.95;                      // of the bootstrap's interval

// What is kept of samples that have passed.
struct Passed {
  metrics::Moments pooled, spatial;
  metrics::InceptionScore score;
  std::vector<at::Tensor> features;         // f32 [n,2048], where a metric needs them
  std::vector<at::Tensor> logits, numbers;  // f32 [n,1008] and i64 [n], where IS is shuffled

  std::array<std::pair<const char*, std::vector<at::Tensor>*>, 3> lists() {
    return {{{"features", &features}, {"logits", &logits}, {"numbers", &numbers}}};
  }
};

struct MetricRules {
  std::vector<std::string> names;
  bool shuffled = false;  // IS as torch-fidelity has it
  std::int64_t k = 3, resamples = 0;

  bool wants(const std::string& metric) const {
    return std::find(names.begin(), names.end(), metric) != names.end();
  }
  bool wants_manifold() const { return wants("precision") || wants("recall"); }
  bool needs_features(const io::TensorMap& reference) const {
    return wants("fid_inf") || (wants("fid") && resamples > 0) ||
           (wants_manifold() && reference.contains("features"));
  }
};

// torch-fidelity cuts a permutation of the whole set into splits.
inline metrics::InceptionScoreValue shuffled_score(const Passed& passed) {
  const at::Tensor logits = at::cat(passed.logits), order = at::cat(passed.numbers).argsort();
  const auto count = order.size(0);
  const at::Tensor permutation =
      at::tensor(NumpyChoice(kShuffleSeed).choice(count, count), at::kLong);
  const at::Tensor splits = metrics::shuffled_splits(permutation, std::min(kShuffledSplits, count));
  metrics::InceptionScore score;
  for (std::int64_t first = 0; first < count; first += kSplit) {
    const auto last = std::min(first + kSplit, count);
    const at::Tensor part = logits.index_select(0, order.slice(0, first, last)).to(at::kDouble);
    score.add(at::softmax(part, 1), splits.slice(0, first, last));
  }
  return score.value();
}

inline metrics::Interval fid_interval(double fid, const at::Tensor& features,
                                      const metrics::FrechetReference& reference,
                                      std::int64_t resamples, Host& host) {
  const Random random(0, Stream::bootstrap);
  const auto count = features.size(0);
  const auto draw = [&](std::int64_t step, std::int64_t drawn) {
    host.progress("resamples", step, resamples);
    return random.integers(static_cast<std::uint32_t>(step), 0, drawn, count);
  };
  return metrics::bootstrap(fid, count, resamples, kConfidence, draw, [&](const at::Tensor& index) {
    return reference.distance(metrics::resampled_gaussian(features, index));
  });
}

inline double fid_infinity(const at::Tensor& features, const metrics::FrechetReference& reference,
                           Host& host) {
  const Random random(0, Stream::evaluator);
  const auto count = features.size(0);
  // Of few samples, from a tenth of them: the extrapolation is as good as its points.
  const auto least = count > 2 * kLeastCount ? kLeastCount : std::max<std::int64_t>(2, count / 10);
  const auto counts = metrics::evenly_spaced(least, count, kCounts);
  const auto draw = [&](std::int64_t step, std::int64_t drawn) {
    host.progress("counts", step, kCounts);
    return random.choice(static_cast<std::uint32_t>(step), count, drawn);
  };
  return metrics::extrapolate(counts, metrics::frechet_at_counts(features, reference, counts, draw))
      .intercept;
}

// reference: mu, sigma and, where it has them, mu_s, sigma_s, features; of `count` images. What the
// reference has no data for is left out. Throws std::invalid_argument as the metrics do.
inline std::vector<Metric> metrics_of(const Passed& passed, const io::TensorMap& reference,
                                      std::int64_t count, const MetricRules& rules, Host& host) {
  const auto gaussian = [&](const char* mean, const char* covariance) {
    return metrics::Gaussian{reference.at(mean), reference.at(covariance), count};
  };
  const at::Tensor features = passed.features.empty() ? at::Tensor() : at::cat(passed.features);
  std::vector<Metric> out;
  if (rules.wants("fid") || rules.wants("fid_inf")) {
    const metrics::FrechetReference pooled(gaussian("mu", "sigma"));
    if (rules.wants("fid")) {
      const double fid = pooled.distance(passed.pooled.gaussian());
      out.push_back({"fid", fid, false, ""});
      if (rules.resamples > 0) {
        const auto interval = fid_interval(fid, features, pooled, rules.resamples, host);
        out.push_back({"fid_low", interval.low, false, ""});
        out.push_back({"fid_high", interval.high, false, ""});
      }
    }
    if (rules.wants("fid_inf"))
      out.push_back({"fid_inf", fid_infinity(features, pooled, host), false, ""});
  }
  if (rules.wants("sfid") && reference.contains("mu_s"))
    out.push_back(
        {"sfid", metrics::frechet_distance(passed.spatial.gaussian(), gaussian("mu_s", "sigma_s")),
         false, ""});
  if (rules.wants("is")) {
    const auto score = rules.shuffled ? shuffled_score(passed) : passed.score.value();
    out.push_back({"is", score.mean, true, ""});
    if (rules.shuffled) out.push_back({"is_std", score.deviation, false, ""});
  }
  if (rules.wants_manifold() && reference.contains("features")) {
    const auto result = metrics::precision_recall(
        metrics::manifold(reference.at("features"), rules.k), metrics::manifold(features, rules.k));
    if (rules.wants("precision")) out.push_back({"precision", result.precision, true, ""});
    if (rules.wants("recall")) out.push_back({"recall", result.recall, true, ""});
  }
  return out;
}

}  // namespace dkdm::evaluators
