// numpy's legacy RandomState.choice without replacement, bit for bit (numpy 1.x and 2.x), so that
// our mixtures of real and synthetic images are those of the authors' datasets/mix.py.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "dkdm/error.hpp"

namespace dkdm {

class DKDM_API NumpyChoice {
 public:
  // numpy.random.seed(seed)
  explicit NumpyChoice(std::uint32_t seed) : engine_(seed) {}
  // choice(n, count, replace=False): `count` distinct values of 0 … n-1. n below 2^32, count <= n.
  // Successive calls go on in the same stream.
  std::vector<std::int64_t> choice(std::int64_t n, std::int64_t count);

 private:
  std::mt19937 engine_;
};

}  // namespace dkdm
