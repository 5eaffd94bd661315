// The two bulk generators: a row of normals, a row of dropout factors. A row is cut into groups of
// kLanes Philox blocks, so that one pass of the inner loop fills whole vector registers; element e
// of a row is a pure function of (key, counter, e).
#pragma once

#include <cstdint>

namespace dkdm::random {

inline constexpr int kLanes = 16;                // Philox blocks in lock step
inline constexpr int kNormalGroup = 4 * kLanes;  // elements: one a word
inline constexpr int kMaskGroup = 8 * kLanes;    // elements: one a half-word

// Block numbers of single draws lie at the top of their range, away from those of bulk rows.
inline constexpr std::uint32_t kUniformBlock = 0xfffffff0u;
inline constexpr std::uint32_t kIntegerBlock = 0xfffffff1u;
inline constexpr std::uint32_t kChoiceBlock = 0xfffffff2u;

// Which row: Philox's key, and its counter but for the block number (word 0).
struct RowKey {
  std::uint32_t key0, key1;
  std::uint32_t step, sample_low, sample_high;
};

// `count` standard normals, those of elements first_group * kNormalGroup onwards. Box-Muller in f32
// by own polynomials (relative error about 1e-6), hence the same bits on every machine; |z| < 6.7.
void fill_normal(const RowKey& row, std::uint32_t first_group, std::int64_t count, float* out);

// `count` factors of elements first_group * kMaskGroup onwards: 0 where the element's 16 bits are
// below `threshold`, else `scale`.
void fill_mask(const RowKey& row, std::uint32_t first_group, std::int64_t count,
               std::uint32_t threshold, float scale, float* out);

}  // namespace dkdm::random
