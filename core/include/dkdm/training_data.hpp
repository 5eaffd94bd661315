// Minibatches of one or two datasets. Example i of step k depends on (seed, k, i) alone. Threads:
// one at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "dkdm/dataset.hpp"
#include "dkdm/random.hpp"

namespace dkdm {

class Ahead;  // dkdm/ahead.hpp

// The sources' images as one list, in endless minibatches: every epoch is a permutation keyed by
// (seed, epoch). Its last partial batch is dropped, or with `keep_last` a smaller batch. With
// `flip`, each example is mirrored left to right with probability 1/2. Throws ConfigError when the
// list is shorter than a batch, DataError when a dataset's images are not of `shape`.
class DKDM_API TrainingImages {
 public:
  // For an accelerator as `device` images of the next step are read while it is at the last ones.
  TrainingImages(std::vector<ImageSource> sources, const SampleShape& shape, std::int64_t batch,
                 std::uint64_t seed, bool flip, at::Device device = at::kCPU,
                 bool keep_last = false);
  ~TrainingImages();

  std::int64_t size() const { return size_; }  // images in the list
  // Places in the list of the images of `step`: int64 [n] on the CPU; n = batch, or fewer in a last
  // one that is kept.
  at::Tensor places(std::int64_t step);
  // Images of `step`: f32 [n,C,H,W] in [-1,1], channels-last, on the device. Not both.
  at::Tensor batch(std::int64_t step);

 private:
  at::Tensor pixels(std::int64_t step);  // uint8, mirrored

  std::vector<ImageSource> sources_;
  std::int64_t size_ = 0, batch_;
  bool flip_, keep_last_;
  Random order_, augment_;
  std::int64_t epoch_ = -1;  // of permutation_
  at::Tensor permutation_;
  at::Device device_;
  std::unique_ptr<Ahead> ahead_;  // of the next step; null on the CPU, whose cores the network has
  std::int64_t ahead_step_ = -1;  // what it is at, -1 = nothing
};

// Which real images replace synthetic ones, as the authors' scripts choose them: a generator with
// seed 0 draws first round(total * fraction) of `real_images` (halves to even), then, from the same
// stream, the rest of `total` synthetic images. The generator is numpy's legacy one
// (datasets/mix.py of the pixel experiments) or Python's own (data/*_mix.py of the latent ones).
// int64 indices. Throws ConfigError when there are too few real images.
struct Mixture {
  at::Tensor real, synthetic;
};
enum class Draw { numpy, python };
DKDM_API Mixture reference_mixture(std::int64_t real_images, std::int64_t total, double fraction,
                                   Draw draw = Draw::numpy);

}  // namespace dkdm
