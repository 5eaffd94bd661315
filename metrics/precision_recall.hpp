// Improved precision and recall (Kynkäänniemi et al. 2019), as ADM's evaluator defines them: pool
// features, k = 3, a vector's ball reaches to its k-th nearest other vector of its own set, a point
// on a ball's surface is inside. Exact: as if every squared distance were summed in f64 over
// (u - v)^2 of the f32 features (ADM computes them in fp16).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace dkdm::metrics {

// A set and the squared radii of its balls.
struct Manifold {
  at::Tensor features;  // f32 [n,D]
  at::Tensor radii;     // f64 [n]
};

struct PrecisionRecall {
  double precision = 0, recall = 0;
  at::Tensor samples_inside;    // bool [n of samples]: in some ball of the reference
  at::Tensor reference_inside;  // bool [n of the reference]: in some ball of the samples
};

// features [n,D] (taken as f32, contiguous), n > k. Cost: one f32 matrix product of n x n x D
// (half of it, by symmetry); memory beside the features: a few matrices of block x block and
// block x D. Throws std::invalid_argument for n <= k and for values that are not finite.
Manifold manifold(const at::Tensor& features, std::int64_t k = 3, std::int64_t block = 2048);

// precision: share of samples inside a reference ball; recall: share of the reference inside a
// sample's ball. One f32 matrix product of n x m x D. Throws std::invalid_argument for different D.
PrecisionRecall precision_recall(const Manifold& reference, const Manifold& samples,
                                 std::int64_t block = 2048);

}  // namespace dkdm::metrics
