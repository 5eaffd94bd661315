// numpy draws a whole permutation by Fisher-Yates from the end and takes its front; each swap's
// index comes from 32-bit words by masked rejection (random_interval of numpy's distributions.c).
#include "dkdm/numpy_choice.hpp"

#include <bit>
#include <cassert>
#include <numeric>
#include <utility>

namespace dkdm {

std::vector<std::int64_t> NumpyChoice::choice(std::int64_t n, std::int64_t count) {
  assert(n >= 0 && n < (std::int64_t{1} << 32) && count >= 0 && count <= n);
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  for (std::int64_t i = n - 1; i > 0; --i) {
    const auto last = static_cast<std::uint32_t>(i);
    const std::uint32_t mask = ~std::uint32_t{0} >> std::countl_zero(last);
    std::uint32_t j;
    do {
      j = static_cast<std::uint32_t>(engine_()) & mask;
    } while (j > last);
    std::swap(order[static_cast<std::size_t>(i)], order[j]);
  }
  order.resize(static_cast<std::size_t>(count));
  return order;
}

}  // namespace dkdm
