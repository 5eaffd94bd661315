// CPython seeds its Mersenne Twister by init_by_array (Matsumoto & Nishimura 2002), takes the top
// bits of a word and rejects what is too large, and keeps either a pool of what is left or a set of
// what was drawn, whichever is smaller (Lib/random.py: Random.sample, _randbelow_with_getrandbits).
#include "dkdm/python_sample.hpp"

#include <bit>
#include <cassert>
#include <numeric>
#include <unordered_set>
#include <utility>

namespace dkdm {
namespace {

// std::mt19937 takes the words that a seed sequence gives as its state.
class InitByArray {
 public:
  using result_type = std::uint32_t;
  explicit InitByArray(std::uint32_t seed) : seed_(seed) {}

  // Reference: init_by_array of mt19937ar.c, for a key of one word.
  template <class Iterator>
  void generate(Iterator first, Iterator last) const {
    const auto size = static_cast<std::uint32_t>(last - first);
    const auto mixed = [&](std::uint32_t i) { return first[i - 1] ^ (first[i - 1] >> 30); };
    first[0] = 19650218;
    for (std::uint32_t i = 1; i < size; ++i) first[i] = 1812433253U * mixed(i) + i;
    std::uint32_t i = 1;
    const auto advance = [&] {
      if (++i < size) return;
      first[0] = first[size - 1];
      i = 1;
    };
    for (std::uint32_t k = 0; k < size; ++k, advance())
      first[i] = (first[i] ^ (mixed(i) * 1664525U)) + seed_;
    for (std::uint32_t k = 1; k < size; ++k, advance())
      first[i] = (first[i] ^ (mixed(i) * 1566083941U)) - i;
    first[0] = 0x80000000U;
  }

 private:
  std::uint32_t seed_;
};

// From how many values on a set of `count` of them takes less memory than a pool of all: an
// estimate, by which the choice and so the values drawn are decided.
std::int64_t set_size(std::int64_t count) {
  std::int64_t size = 21;
  if (count <= 5) return size;
  std::int64_t table = 1;
  while (table < 3 * count) table *= 4;
  return size + table;
}

}  // namespace

PythonSample::PythonSample(std::uint32_t seed) {
  InitByArray words(seed);
  engine_.seed(words);
}

std::int64_t PythonSample::below(std::int64_t n) {
  const int spare_bits = std::countl_zero(static_cast<std::uint32_t>(n));
  std::int64_t value;
  do {
    value = static_cast<std::uint32_t>(engine_()) >> spare_bits;
  } while (value >= n);
  return value;
}

std::vector<std::int64_t> PythonSample::sample(std::int64_t n, std::int64_t count) {
  assert(n >= 0 && n < (std::int64_t{1} << 32) && count >= 0 && count <= n);
  std::vector<std::int64_t> drawn;
  drawn.reserve(static_cast<std::size_t>(count));
  if (n <= set_size(count)) {
    std::vector<std::int64_t> pool(static_cast<std::size_t>(n));
    std::iota(pool.begin(), pool.end(), std::int64_t{0});
    for (std::int64_t i = 0; i < count; ++i) {
      auto& place = pool[static_cast<std::size_t>(below(n - i))];
      drawn.push_back(place);
      place = pool[static_cast<std::size_t>(n - i - 1)];
    }
    return drawn;
  }
  std::unordered_set<std::int64_t> taken;
  while (static_cast<std::int64_t>(drawn.size()) < count)
    if (const std::int64_t value = below(n); taken.insert(value).second) drawn.push_back(value);
  return drawn;
}

}  // namespace dkdm
