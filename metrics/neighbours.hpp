// The nearest of many vectors by lower bounds of their distances.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

namespace dkdm::metrics {

// Keeps the vectors of the smallest bounds, several times as many as neighbours are wanted.
class Nearest {
 public:
  explicit Nearest(std::int64_t neighbours) : most_(4 * std::size_t(neighbours) + 4) {}

  // No vector that is not kept has a smaller bound than this. Infinite while there is room.
  float farthest() const {
    return kept_.size() < most_ ? std::numeric_limits<float>::infinity() : kept_.front().first;
  }

  void take(float bound, std::int64_t index) {
    if (kept_.size() == most_) {
      if (bound >= kept_.front().first) return;
      std::pop_heap(kept_.begin(), kept_.end());
      kept_.pop_back();
    }
    kept_.emplace_back(bound, index);
    std::push_heap(kept_.begin(), kept_.end());
  }

  std::vector<std::int64_t> indices() const {
    std::vector<std::int64_t> result;
    for (const auto& [bound, index] : kept_) result.push_back(index);
    return result;
  }

 private:
  std::size_t most_;
  std::vector<std::pair<float, std::int64_t>> kept_;  // a heap, the largest bound in front
};

}  // namespace dkdm::metrics
