// Update of two parts: Chan, Golub & LeVeque 1983, eq. 2.1.
#include "metrics/moments.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <stdexcept>

#include "metrics/state.hpp"

namespace dkdm::metrics {
namespace {

at::Tensor copy_of(const at::Tensor& tensor) { return tensor.defined() ? tensor.clone() : tensor; }

}  // namespace

Moments::Moments(const Moments& other)
    : count_(other.count_), mean_(copy_of(other.mean_)), mean_low_(copy_of(other.mean_low_)),
      scatter_(copy_of(other.scatter_)), block_(copy_of(other.block_)), waiting_(other.waiting_) {}

Moments& Moments::operator=(const Moments& other) {
  if (this != &other) *this = Moments(other);
  return *this;
}

void Moments::add(const at::Tensor& features) {
  if (features.size(0) == 0) return;
  const auto dimension = features.size(1);
  if (!block_.defined()) block_ = at::empty({kBlock, dimension}, at::kDouble);
  require_dimension(dimension);
  for (std::int64_t first = 0; first < features.size(0);) {
    const auto taken = std::min(kBlock - waiting_, features.size(0) - first);
    block_.narrow(0, waiting_, taken).copy_(features.narrow(0, first, taken));
    first += taken;
    waiting_ += taken;
    if (waiting_ == kBlock) flush();
  }
}

void Moments::merge(const Moments& other) {
  if (other.count() == 0) return;
  if (!block_.defined()) {
    *this = other;
    return;
  }
  require_dimension(other.block_.size(1));
  if (other.count_ > 0) {
    combine(other.count_, other.mean_, other.mean_low_);
    scatter_.add_(other.scatter_);
  }
  add(other.block_.narrow(0, 0, other.waiting_));
}

// The waiting vectors into the sums.
void Moments::flush() {
  if (waiting_ == 0) return;
  const auto x = block_.narrow(0, 0, waiting_);
  const auto mean = x.mean(0);
  const auto centred = x - mean;
  const auto mean_low = centred.mean(0);
  centred.sub_(mean_low);
  combine(waiting_, mean, mean_low);
  scatter_.addmm_(centred.t(), centred);
  waiting_ = 0;
}

// Takes a part's mean in, and what its distance from ours adds to the scatter.
void Moments::combine(std::int64_t count, const at::Tensor& mean, const at::Tensor& mean_low) {
  if (count_ == 0) {
    count_ = count;
    mean_ = mean.clone();
    mean_low_ = mean_low.clone();
    scatter_ = at::zeros({mean.size(0), mean.size(0)}, at::kDouble);
    return;
  }
  const double share = double(count) / double(count_ + count);
  const auto delta = (mean - mean_).add_(mean_low - mean_low_);
  scatter_.addr_(delta, delta, /*beta=*/1, /*alpha=*/double(count_) * share);
  // What the sum loses (Knuth 1969, 4.2.2, theorem C) goes into the low part.
  const auto step = delta * share;
  const auto sum = mean_ + step;
  const auto taken = sum - mean_;
  mean_low_.add_((mean_ - (sum - taken)) + (step - taken));
  mean_ = sum;
  count_ += count;
}

Gaussian Moments::gaussian() const {
  if (count() < 2)
    throw std::invalid_argument("a covariance needs at least 2 vectors, there are " +
                                std::to_string(count()));
  if (waiting_ > 0) {
    Moments whole(*this);
    whole.flush();
    return whole.gaussian();
  }
  return {mean_ + mean_low_, scatter_ / double(count_ - 1), count_};
}

Moments::State Moments::state() const {
  const auto dimension = block_.defined() ? block_.size(1) : 0;
  auto sums = [&](const at::Tensor& tensor, at::IntArrayRef shape) {
    return tensor.defined() ? tensor.clone() : at::zeros(shape, at::kDouble);
  };
  return {{"count", at::scalar_tensor(count_, at::kLong)},
          {"mean", sums(mean_, {dimension})},
          {"mean_low", sums(mean_low_, {dimension})},
          {"scatter", sums(scatter_, {dimension, dimension})},
          {"waiting", block_.defined() ? block_.narrow(0, 0, waiting_).clone()
                                       : at::zeros({0, 0}, at::kDouble)}};
}

Moments Moments::from_state(const State& state) {
  const auto waiting = state_tensor(state, "waiting", at::kDouble, {-1, -1});
  const auto dimension = waiting.size(1);
  const auto count = state_tensor(state, "count", at::kLong, {}).item<std::int64_t>();
  if (count < 0 || waiting.size(0) >= kBlock)
    throw std::invalid_argument("state: a count of " + std::to_string(count) + " with " +
                                std::to_string(waiting.size(0)) + " vectors waiting");
  Moments moments;
  if (count > 0) {
    moments.count_ = count;
    moments.mean_ = state_tensor(state, "mean", at::kDouble, {dimension}).clone();
    moments.mean_low_ = state_tensor(state, "mean_low", at::kDouble, {dimension}).clone();
    moments.scatter_ = state_tensor(state, "scatter", at::kDouble, {dimension, dimension}).clone();
  }
  if (dimension > 0) {
    moments.block_ = at::empty({kBlock, dimension}, at::kDouble);
    moments.add(waiting);
  }
  return moments;
}

void Moments::require_dimension(std::int64_t dimension) const {
  if (dimension != block_.size(1))
    throw std::invalid_argument("feature dimensions differ: " + std::to_string(block_.size(1)) +
                                " and " + std::to_string(dimension));
}

}  // namespace dkdm::metrics
