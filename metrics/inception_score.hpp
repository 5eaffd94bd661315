// Inception Score (Salimans et al. 2016).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace dkdm::metrics {

// exp of the mean KL(p(y|x) ‖ p(y)) within splits of `split` consecutive samples, averaged over the
// splits; a short last split counts fully (ADM's evaluator, split 5000). split 0 = the whole set at
// once. probabilities [n,classes], rows sum to 1; f64 inside; a probability of 0 contributes 0.
// Throws std::invalid_argument when there are none or when one is not finite or negative.
double inception_score(const at::Tensor& probabilities, std::int64_t split);

}  // namespace dkdm::metrics
