// Inception Score (Salimans et al. 2016): exp of the mean KL(p(y|x) ‖ p(y)) within a split of the
// samples, averaged over splits. f64; a probability of 0 contributes 0.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>

namespace dkdm::metrics {

struct InceptionScoreValue {
  double mean = 0, deviation = 0;  // over splits; deviation with divisor = splits (0 of one split)
  std::int64_t splits = 0;
};

// Streaming: a sum per split and class is all it keeps, in any order of samples.
class InceptionScore {
 public:
  // probabilities [n,classes], rows sum to 1; splits int64 [n]: the split that each sample counts
  // in, from 0. Throws std::invalid_argument for a value that is negative or not finite, for
  // another number of classes than before, and for a split below 0 or absurdly large.
  void add(const at::Tensor& probabilities, const at::Tensor& splits);
  // Parts (shards, processes) of one sample set, splits numbered over the whole of it.
  void merge(const InceptionScore& other);

  std::int64_t count() const;
  // Over the splits that have samples, a short one counted fully. Throws std::invalid_argument
  // when there are no samples.
  InceptionScoreValue value() const;

  // For a file or another process: "counts" i64 [splits], "entropy" f64 [splits] (sums of p log p),
  // "marginal" f64 [splits,classes] (sums of p).
  using State = std::map<std::string, at::Tensor>;
  State state() const;
  static InceptionScore from_state(const State& state);

 private:
  void reserve(std::int64_t splits, std::int64_t classes);

  at::Tensor counts_, entropy_, marginal_;
};

// Splits of samples first … first+count-1 by ADM's rule: `split` (5000) consecutive samples each.
// split 0 = the whole set at once. int64 [count].
at::Tensor consecutive_splits(std::int64_t first, std::int64_t count, std::int64_t split);

// Splits by torch-fidelity's rule: the samples in the order of `permutation` (int64 [N]; numpy's
// RandomState(2020).permutation(N) there) are cut into `splits` (10) parts, part s from s N /
// splits rounded down. int64 [N], at a sample's own index.
at::Tensor shuffled_splits(const at::Tensor& permutation, std::int64_t splits);

// ADM's score of probabilities [n,classes] that are all there: mean over consecutive_splits.
double inception_score(const at::Tensor& probabilities, std::int64_t split);

}  // namespace dkdm::metrics
