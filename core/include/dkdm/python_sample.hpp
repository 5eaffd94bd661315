// Python's random.Random(seed).sample, value for value (CPython 3.9 to 3.13), so that our mixtures
// of real and synthetic images are those of the authors' latent experiments (data/celebahq_mix.py).
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "dkdm/error.hpp"

namespace dkdm {

class DKDM_API PythonSample {
 public:
  // random.Random(seed)
  explicit PythonSample(std::uint32_t seed);
  // sample(range(n), count): `count` distinct values of 0 … n-1 in the order drawn. n below 2^32,
  // count <= n. Successive calls go on in the same stream.
  std::vector<std::int64_t> sample(std::int64_t n, std::int64_t count);

 private:
  std::int64_t below(std::int64_t n);  // uniform in 0 … n-1

  std::mt19937 engine_;
};

}  // namespace dkdm
