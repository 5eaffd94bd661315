// Definition: inception_score.hpp.
#include "metrics/inception_score.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace dkdm::metrics {

double inception_score(const at::Tensor& probabilities, std::int64_t split) {
  const auto count = probabilities.size(0);
  if (count == 0) throw std::invalid_argument("no samples");
  if (!probabilities.isfinite().all().item<bool>() || probabilities.lt(0).any().item<bool>())
    throw std::invalid_argument("a class probability is not finite or negative");
  if (split == 0) split = count;
  double sum = 0;
  std::int64_t splits = 0;
  for (std::int64_t first = 0; first < count; first += split, ++splits) {
    const auto p = probabilities.slice(0, first, std::min(count, first + split)).to(at::kDouble);
    const auto marginal = p.mean(0, /*keepdim=*/true);
    // p log p -> 0 as p -> 0.
    const auto kl = (at::xlogy(p, p) - at::xlogy(p, marginal)).sum(1).mean();
    sum += std::exp(kl.item<double>());
  }
  return sum / double(splits);
}

}  // namespace dkdm::metrics
