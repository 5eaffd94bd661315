// Philox and Box-Muller as compositions of LibTorch's operators: philox.hpp and plain_fill.cpp line
// by line. 32-bit words are int64 tensors of 0 … 2^32 - 1.
#include "random/portable.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <initializer_list>
#include <vector>

#include "random/fill.hpp"

namespace dkdm::random {
namespace {

using at::Tensor;

constexpr std::int64_t kWord = 0xffffffff;

// Of the blocks that are worked on at a time; each needs about 200 bytes on the way.
constexpr std::int64_t kBlocks = std::int64_t{1} << 21;

struct Product {
  Tensor high, low;
};

// The 64 bits of factor * word. Signed, the factor is factor - 2^32, of less than 30 bits for both
// of Philox's, so that no product overflows; its high word lacks the factor's 2^32 times `word`.
Product product(std::uint32_t factor, const Tensor& word) {
  const Tensor signed_product = word * static_cast<std::int64_t>(static_cast<std::int32_t>(factor));
  return {signed_product.bitwise_right_shift(32) + word, signed_product.bitwise_and(kWord)};
}

// Philox's four words of `count` blocks from first_block on, each int64 [n, count], of the counters
// (block, step, c2, c3) with c2 and c3 int64 [n,1].
std::array<Tensor, 4> words(const Key& key, const Step& step, const Tensor& c2, const Tensor& c3,
                            std::int64_t count, std::int64_t first_block = 0) {
  const auto there = c2.options();
  std::array<Tensor, 4> c{at::arange(first_block, first_block + count, there).unsqueeze(0),
                          step.on_device.defined()
                              ? step.on_device.view({1, 1})
                              : at::full({1, 1}, static_cast<std::int64_t>(step.number), there),
                          c2, c3};
  Key round_key = key;
  for (int round = 0; round < 10; ++round) {
    const Product p0 = product(0xD2511F53U, c[0]), p1 = product(0xCD9E8D57U, c[2]);
    c = {p1.high.bitwise_xor(c[1]).bitwise_xor(static_cast<std::int64_t>(round_key.word0)), p1.low,
         p0.high.bitwise_xor(c[3]).bitwise_xor(static_cast<std::int64_t>(round_key.word1)), p0.low};
    round_key.word0 += 0x9E3779B9U;
    round_key.word1 += 0xBB67AE85U;
  }
  return c;
}

// Horner's scheme: coefficients of the highest power first.
Tensor polynomial(float first, std::initializer_list<float> others, const Tensor& x) {
  Tensor sum;
  for (const float coefficient : others) sum = (sum.defined() ? sum * x : x * first) + coefficient;
  return sum;
}

// plain_fill.cpp's radius of int64 words -> f32.
Tensor radius(const Tensor& word) {
  const Tensor u = (word.bitwise_right_shift(1).to(at::kFloat) + 0.5F) * 0x1p-31F;
  const Tensor bits = u.view(at::kInt);
  const Tensor exponent = (bits - 0x3f3504f3).bitwise_right_shift(23);
  const Tensor f = (bits - exponent * 0x800000).view(at::kFloat) - 1.0F;
  const Tensor e = exponent.to(at::kFloat);
  const Tensor z = f * f;
  const Tensor p =
      polynomial(7.0376836292e-2F,
                 {-1.1514610310e-1F, 1.1676998740e-1F, -1.2420140846e-1F, 1.4249322787e-1F,
                  -1.6668057665e-1F, 2.0000714765e-1F, -2.4999993993e-1F, 3.3333331174e-1F},
                 f);
  const Tensor y = p * f * z + e * -2.12194440e-4F - z * 0.5F;
  const Tensor square = (f + y + e * 0.693359375F) * -2.0F;
  // Correctly rounded, as LibTorch's f32 root on the CPU (MKL's) is not (pytorch/pytorch#31250):
  // the root of an f32 number is at least 2^-51 of itself away from where its rounding to f32
  // changes, more than an f64 root errs.
  return at::where(square > 0, square, 0.0).to(at::kDouble).sqrt().to(at::kFloat);
}

struct Direction {
  Tensor cosine, sine;
};

// plain_fill.cpp's direction of int64 words -> f32.
Direction direction(const Tensor& word) {
  constexpr float kPiOver4 = 0.78539816339744831F;
  const Tensor x =
      (word.bitwise_and(0x3fffffff) - 0x20000000).to(at::kFloat) * (kPiOver4 * 0x1p-29F);
  const Tensor z = x * x;
  const Tensor s =
      polynomial(-1.9515295891e-4F, {8.3321608736e-3F, -1.6666654611e-1F}, z) * z * x + x;
  const Tensor tail =
      polynomial(2.443315711809948e-5F, {-1.388731625493765e-3F, 4.166664568298827e-2F}, z);
  const Tensor c = tail * z * z - z * 0.5F + 1.0F;
  const Tensor low = word.bitwise_right_shift(30).bitwise_and(1);  // of the quadrant's bits
  const Tensor high = word.bitwise_right_shift(31);
  const Tensor odd = low == 1;
  const auto sign = [](const Tensor& bit) { return (1 - bit * 2).to(at::kFloat); };
  return {at::where(odd, s, c) * sign(high.bitwise_xor(low)), at::where(odd, c, s) * sign(high)};
}

// What `fill` makes of int64 words [n, groups, 4, kLanes], of `group_size` elements a group, as
// [n, length]. c2 and c3 [n,1] are the counters' last words; some rows at a time.
template <class Fill>
Tensor filled(const Key& key, const Step& step, const Tensor& c2, const Tensor& c3,
              std::int64_t length, std::int64_t group_size, const Fill& fill) {
  const std::int64_t rows = c2.size(0), groups = (length + group_size - 1) / group_size;
  Tensor result = at::empty({rows, length}, c2.options().dtype(at::kFloat));
  if (result.numel() == 0) return result;
  const std::int64_t at_a_time = std::max<std::int64_t>(1, kBlocks / (groups * kLanes));
  for (std::int64_t row = 0; row < rows; row += at_a_time) {
    const std::int64_t n = std::min(at_a_time, rows - row);
    std::vector<Tensor> parts;
    for (const Tensor& word :
         words(key, step, c2.narrow(0, row, n), c3.narrow(0, row, n), groups * kLanes))
      parts.push_back(word.view({n, groups, kLanes}));
    result.narrow(0, row, n).copy_(
        fill(at::stack(parts, 2)).reshape({n, groups * group_size}).narrow(1, 0, length));
  }
  return result;
}

}  // namespace

Tensor portable_normal(const Key& key, const Step& step, const Tensor& samples,
                       std::int64_t length) {
  const Tensor column = samples.unsqueeze(1);
  const Tensor high = column.bitwise_right_shift(32).bitwise_and(kWord);
  return filled(key, step, column.bitwise_and(kWord), high, length, kNormalGroup,
                [](const Tensor& w) {
                  // Words 0 and 2 are radii, 1 and 3 their angles.
                  const Tensor r = radius(w.slice(2, 0, 4, 2));
                  const Direction d = direction(w.slice(2, 1, 4, 2));
                  return at::stack({r * d.cosine, r * d.sine}, 3);
                });
}

Tensor portable_uniform(const Key& key, const Step& step, std::int64_t first, std::int64_t count,
                        at::Device device) {
  const auto there = at::TensorOptions().dtype(at::kLong).device(device);
  const Tensor samples = at::arange(first, first + count, there).unsqueeze(1);
  const Tensor high = samples.bitwise_right_shift(32).bitwise_and(kWord);
  const auto w = words(key, step, samples.bitwise_and(kWord), high, 1, kUniformBlock);
  const Tensor bits = w[0].bitwise_left_shift(21) + w[1].bitwise_right_shift(11);
  return bits.squeeze(1).to(at::kDouble) * 0x1p-53;
}

Tensor portable_mask(const Key& key, const Step& step, std::uint32_t layer, std::int64_t first,
                     std::int64_t rows, std::int64_t length, std::uint32_t threshold, float scale,
                     at::Device device) {
  const auto there = at::TensorOptions().dtype(at::kLong).device(device);
  const Tensor samples = at::arange(first, first + rows, there).unsqueeze(1);
  const Tensor of_layer = at::full({1, 1}, static_cast<std::int64_t>(layer), there);
  return filled(key, step, samples.bitwise_and(kWord), of_layer.expand({rows, 1}), length,
                kMaskGroup, [&](const Tensor& w) {
                  const Tensor halves =
                      at::stack({w.bitwise_and(0xffff), w.bitwise_right_shift(16)}, 3);
                  return (halves >= static_cast<std::int64_t>(threshold)).to(at::kFloat) * scale;
                });
}

}  // namespace dkdm::random
