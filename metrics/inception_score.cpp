// With the sums over a split of p log p and of p, the mean of KL(p ‖ q) is
// (sum p log p) / n - sum q log q, q the mean of p.
#include "metrics/inception_score.hpp"

#include <ATen/ATen.h>

#include <cmath>
#include <stdexcept>

#include "metrics/state.hpp"

namespace dkdm::metrics {
namespace {

constexpr std::int64_t kMostSplits = 1 << 20;
constexpr std::int64_t kBatch = 1024;  // samples whose f64 copies exist at once

// `tensor` with zero rows appended up to `rows`.
at::Tensor grown(const at::Tensor& tensor, std::int64_t rows) {
  if (tensor.size(0) >= rows) return tensor;
  auto sizes = tensor.sizes().vec();
  sizes[0] = rows - tensor.size(0);
  return at::cat({tensor, at::zeros(sizes, tensor.options())});
}

}  // namespace

void InceptionScore::reserve(std::int64_t splits, std::int64_t classes) {
  if (!marginal_.defined()) {
    counts_ = at::zeros({0}, at::kLong);
    entropy_ = at::zeros({0}, at::kDouble);
    marginal_ = at::zeros({0, classes}, at::kDouble);
  }
  if (marginal_.size(1) != classes)
    throw std::invalid_argument("numbers of classes differ: " + std::to_string(marginal_.size(1)) +
                                " and " + std::to_string(classes));
  counts_ = grown(counts_, splits);
  entropy_ = grown(entropy_, splits);
  marginal_ = grown(marginal_, splits);
}

void InceptionScore::add(const at::Tensor& probabilities, const at::Tensor& splits) {
  if (probabilities.size(0) == 0) return;
  if (!probabilities.isfinite().all().item<bool>() || probabilities.lt(0).any().item<bool>())
    throw std::invalid_argument("a class probability is not finite or negative");
  if (splits.sizes() != at::IntArrayRef{probabilities.size(0)})
    throw std::invalid_argument("a split number is wanted for each of " +
                                std::to_string(probabilities.size(0)) + " samples, there are " +
                                std::to_string(splits.numel()));
  const auto least = splits.min().item<std::int64_t>(), most = splits.max().item<std::int64_t>();
  if (least < 0 || most >= kMostSplits)
    throw std::invalid_argument("split " + std::to_string(least < 0 ? least : most) +
                                " is outside 0 … " + std::to_string(kMostSplits - 1));
  reserve(most + 1, probabilities.size(1));
  const auto ones = at::ones({std::min(kBatch, splits.size(0))}, at::kLong);
  for (std::int64_t first = 0; first < splits.size(0); first += kBatch) {
    const auto count = std::min(kBatch, splits.size(0) - first);
    const auto where = splits.narrow(0, first, count);
    const auto p = probabilities.narrow(0, first, count).to(at::kCPU, at::kDouble);
    counts_.index_add_(0, where, ones.narrow(0, 0, count));
    entropy_.index_add_(0, where, at::xlogy(p, p).sum(1));  // p log p -> 0 as p -> 0
    marginal_.index_add_(0, where, p);
  }
}

void InceptionScore::merge(const InceptionScore& other) {
  if (!other.marginal_.defined()) return;
  const auto splits = other.marginal_.size(0);
  reserve(splits, other.marginal_.size(1));
  counts_.narrow(0, 0, splits).add_(other.counts_);
  entropy_.narrow(0, 0, splits).add_(other.entropy_);
  marginal_.narrow(0, 0, splits).add_(other.marginal_);
}

std::int64_t InceptionScore::count() const {
  return counts_.defined() ? counts_.sum().item<std::int64_t>() : 0;
}

InceptionScoreValue InceptionScore::value() const {
  if (count() == 0) throw std::invalid_argument("no samples");
  const auto filled = counts_.nonzero().flatten();
  const auto counts = counts_.index_select(0, filled).to(at::kDouble);
  const auto marginal = marginal_.index_select(0, filled) / counts.unsqueeze(1);
  const auto kl = entropy_.index_select(0, filled) / counts - at::xlogy(marginal, marginal).sum(1);
  const auto scores = kl.exp();
  const auto mean = scores.mean();
  return {mean.item<double>(), (scores - mean).square().mean().sqrt().item<double>(),
          scores.size(0)};
}

InceptionScore::State InceptionScore::state() const {
  InceptionScore copy;
  copy.reserve(0, marginal_.defined() ? marginal_.size(1) : 0);
  copy.merge(*this);
  return {{"counts", copy.counts_}, {"entropy", copy.entropy_}, {"marginal", copy.marginal_}};
}

InceptionScore InceptionScore::from_state(const State& state) {
  const auto marginal = state_tensor(state, "marginal", at::kDouble, {-1, -1});
  InceptionScore score;
  if (marginal.size(1) == 0) return score;
  score.counts_ = state_tensor(state, "counts", at::kLong, {marginal.size(0)}).clone();
  score.entropy_ = state_tensor(state, "entropy", at::kDouble, {marginal.size(0)}).clone();
  score.marginal_ = marginal.clone();
  return score;
}

at::Tensor consecutive_splits(std::int64_t first, std::int64_t count, std::int64_t split) {
  if (split == 0) return at::zeros({count}, at::kLong);
  return at::arange(first, first + count, at::kLong).div(split, "floor");
}

at::Tensor shuffled_splits(const at::Tensor& permutation, std::int64_t splits) {
  const auto count = permutation.size(0);
  auto result = at::empty({count}, at::kLong);
  for (std::int64_t s = 0; s < splits; ++s) {
    const auto first = s * count / splits, end = (s + 1) * count / splits;
    result.index_fill_(0, permutation.slice(0, first, end), s);
  }
  return result;
}

double inception_score(const at::Tensor& probabilities, std::int64_t split) {
  InceptionScore score;
  score.add(probabilities, consecutive_splits(0, probabilities.size(0), split));
  return score.value().mean;
}

}  // namespace dkdm::metrics
