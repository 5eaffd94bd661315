// Vectorised Philox: the loops below are written for the compiler's vectoriser (this file's flags
// are in core/CMakeLists.txt). Dropout draws one number an activation, millions a training step.
#include "random/fill.hpp"

#include <algorithm>
#include <bit>

#include "random/philox.hpp"

// Chosen when the library is loaded. No clone fuses multiply and add (-ffp-contract=off), so all
// give the same bits.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define DKDM_VECTOR_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define DKDM_VECTOR_CLONES
#endif

namespace dkdm::random {
namespace {

constexpr float kPiOver4 = 0.78539816339744831f;

inline __attribute__((always_inline)) float from_bits(std::uint32_t bits) {
  return std::bit_cast<float>(bits);
}

// sqrt(-2 ln u) for u = (w + 1/2) 2^-31, w = 31 random bits: u is never 0. Cephes' logf polynomial.
inline __attribute__((always_inline)) float radius(std::uint32_t word) {
  const float u = (static_cast<float>(static_cast<std::int32_t>(word >> 1)) + 0.5f) * 0x1p-31f;
  const std::int32_t bits = std::bit_cast<std::int32_t>(u);
  const std::int32_t exponent = (bits - 0x3f3504f3) >> 23;  // mantissa in [sqrt(1/2), sqrt(2))
  const float f = std::bit_cast<float>(bits - exponent * 0x800000) - 1.0f;
  const float e = static_cast<float>(exponent);
  const float z = f * f;
  float p = 7.0376836292e-2f;
  p = p * f - 1.1514610310e-1f;
  p = p * f + 1.1676998740e-1f;
  p = p * f - 1.2420140846e-1f;
  p = p * f + 1.4249322787e-1f;
  p = p * f - 1.6668057665e-1f;
  p = p * f + 2.0000714765e-1f;
  p = p * f - 2.4999993993e-1f;
  p = p * f + 3.3333331174e-1f;
  float y = p * f * z;
  y += e * -2.12194440e-4f;
  y -= 0.5f * z;
  const float log_u = f + y + e * 0.693359375f;
  const float square = -2.0f * log_u;
  return __builtin_sqrtf(square > 0.0f ? square : 0.0f);
}

// cos and sin of a uniform angle: two bits choose the quadrant, thirty the angle in [-pi/4, pi/4).
inline __attribute__((always_inline)) void direction(std::uint32_t word, float& cosine,
                                                     float& sine) {
  const std::int32_t offset = static_cast<std::int32_t>(word & 0x3fffffffu) - 0x20000000;
  const float x = static_cast<float>(offset) * (kPiOver4 * 0x1p-29f);
  const float z = x * x;
  const float s = ((-1.9515295891e-4f * z + 8.3321608736e-3f) * z - 1.6666654611e-1f) * z * x + x;
  const float cosine_tail =
      (2.443315711809948e-5f * z - 1.388731625493765e-3f) * z + 4.166664568298827e-2f;
  const float c = cosine_tail * z * z - 0.5f * z + 1.0f;
  const std::uint32_t swap = 0u - ((word >> 30) & 1u);  // odd quadrant: all ones
  const std::uint32_t s_bits = std::bit_cast<std::uint32_t>(s);
  const std::uint32_t c_bits = std::bit_cast<std::uint32_t>(c);
  const std::uint32_t sine_sign = word & 0x80000000u;
  const std::uint32_t cosine_sign = (word ^ (word << 1)) & 0x80000000u;
  cosine = from_bits(((c_bits & ~swap) | (s_bits & swap)) ^ cosine_sign);
  sine = from_bits(((s_bits & ~swap) | (c_bits & swap)) ^ sine_sign);
}

DKDM_VECTOR_CLONES
void normal_group(const RowKey& row, std::uint32_t group, float* __restrict out) {
  const RowKey key = row;
  for (int lane = 0; lane < kLanes; ++lane) {
    std::uint32_t c0 = group * kLanes + static_cast<std::uint32_t>(lane), c1 = key.step;
    std::uint32_t c2 = key.sample_low, c3 = key.sample_high;
    philox(c0, c1, c2, c3, key.key0, key.key1);
    const float r0 = radius(c0), r1 = radius(c2);
    float cos0, sin0, cos1, sin1;
    direction(c1, cos0, sin0);
    direction(c3, cos1, sin1);
    out[lane] = r0 * cos0;
    out[kLanes + lane] = r0 * sin0;
    out[2 * kLanes + lane] = r1 * cos1;
    out[3 * kLanes + lane] = r1 * sin1;
  }
}

DKDM_VECTOR_CLONES
void mask_group(const RowKey& row, std::uint32_t group, std::uint32_t threshold, float scale,
                float* __restrict out) {
  const RowKey key = row;
  const std::int32_t limit = static_cast<std::int32_t>(threshold);
  for (int lane = 0; lane < kLanes; ++lane) {
    std::uint32_t c[4] = {group * kLanes + static_cast<std::uint32_t>(lane), key.step,
                          key.sample_low, key.sample_high};
    philox(c[0], c[1], c[2], c[3], key.key0, key.key1);
#pragma GCC unroll 4
    for (int word = 0; word < 4; ++word) {
      const std::int32_t low = static_cast<std::int32_t>(c[word] & 0xffffu);
      const std::int32_t high = static_cast<std::int32_t>(c[word] >> 16);
      out[(2 * word) * kLanes + lane] = low < limit ? 0.0f : scale;
      out[(2 * word + 1) * kLanes + lane] = high < limit ? 0.0f : scale;
    }
  }
}

// Calls fill(group, destination) over `count` elements; the last, partial group goes by a buffer.
template <int group_size, typename Fill>
void for_groups(std::uint32_t group, std::int64_t count, float* out, const Fill& fill) {
  for (; count >= group_size; count -= group_size, out += group_size) fill(group++, out);
  if (count > 0) {
    float last[group_size];
    fill(group, last);
    std::copy_n(last, count, out);
  }
}

}  // namespace

void fill_normal(const RowKey& row, std::uint32_t first_group, std::int64_t count, float* out) {
  for_groups<kNormalGroup>(first_group, count, out, [&](std::uint32_t group, float* destination) {
    normal_group(row, group, destination);
  });
}

void fill_mask(const RowKey& row, std::uint32_t first_group, std::int64_t count,
               std::uint32_t threshold, float scale, float* out) {
  for_groups<kMaskGroup>(first_group, count, out, [&](std::uint32_t group, float* destination) {
    mask_group(row, group, threshold, scale, destination);
  });
}

}  // namespace dkdm::random
