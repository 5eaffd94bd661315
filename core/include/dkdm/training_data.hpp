// Minibatches of one or two datasets. Example i of step k depends on (seed, k, i) alone. Threads:
// one at a time.
#pragma once

#include <cstdint>
#include <vector>

#include "dkdm/dataset.hpp"
#include "dkdm/random.hpp"

namespace dkdm {

// The sources' images as one list, in endless minibatches: every epoch is a permutation keyed by
// (seed, epoch), its last partial batch is dropped. With `flip`, each example is mirrored left to
// right with probability 1/2. Throws ConfigError when the list is shorter than a batch, DataError
// when a dataset's images are not of `shape`.
class DKDM_API TrainingImages {
 public:
  TrainingImages(std::vector<ImageSource> sources, const SampleShape& shape, std::int64_t batch,
                 std::uint64_t seed, bool flip);

  std::int64_t size() const { return size_; }  // images in the list
  // Places in the list of the images of `step`: int64 [batch].
  at::Tensor places(std::int64_t step);
  // Images of `step`: f32 [batch,C,H,W] in [-1,1], channels-last.
  at::Tensor batch(std::int64_t step);

 private:
  std::vector<ImageSource> sources_;
  std::int64_t size_ = 0, batch_;
  bool flip_;
  Random order_, augment_;
  std::int64_t epoch_ = -1;  // of permutation_
  at::Tensor permutation_;
};

// Which real images replace synthetic ones, as the authors' datasets/mix.py chooses them: numpy's
// legacy generator with seed 0, first round(total * fraction) of `real_images` (halves to even),
// then, from the same stream, the rest of `total` synthetic images. int64 indices. Throws
// ConfigError when there are too few real images.
struct Mixture {
  at::Tensor real, synthetic;
};
DKDM_API Mixture reference_mixture(std::int64_t real_images, std::int64_t total, double fraction);

}  // namespace dkdm
