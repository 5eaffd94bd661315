// Random numbers: Philox against its published vectors, and what the runs rely on: a number depends
// on its place alone, and has the right distribution. Seeds are fixed, so no test is flaky; bounds
// are 4 standard errors.
#include "dkdm/random.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <numbers>

#include "random/fill.hpp"
#include "random/philox.hpp"
#include "random/portable.hpp"

namespace {

using dkdm::Random;
using dkdm::Stream;
using Words = std::array<std::uint32_t, 4>;

Random example() { return {7, Stream::sample_start}; }

// at::equal takes 0 for -0.
bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  return a.sizes() == b.sizes() &&
         at::equal(a.contiguous().view(at::kInt), b.contiguous().view(at::kInt));
}

}  // namespace

TEST_CASE("random: Philox4x32-10 gives Random123's known answers", "[unit][random]") {
  // kat_vectors of the Random123 distribution, version 1.14.
  CHECK(dkdm::random::philox({0, 0, 0, 0}, {0, 0}) ==
        Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(dkdm::random::philox({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}) ==
        Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(dkdm::random::philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
                             {0xa4093822, 0x299f31d0}) ==
        Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("random: splitmix64 gives the first output of Vigna's generator", "[unit][random]") {
  CHECK(dkdm::random::splitmix64(0) == 0xE220A8397B1DCDAFu);  // splitmix64.c, seed 0
}

TEST_CASE("random: a normal is Box-Muller of its block's words", "[unit][random]") {
  const std::uint64_t sample = (std::uint64_t{3} << 32) + 11;  // needs both counter words
  const at::Tensor index = at::tensor({static_cast<std::int64_t>(sample)}, at::kLong);
  const at::Tensor z = example().normal(5, index, {100});
  for (std::int64_t element = 0; element < 100; ++element) {
    const std::int64_t group = element / dkdm::random::kNormalGroup;
    const std::int64_t slot = element % dkdm::random::kNormalGroup / dkdm::random::kLanes;
    const std::int64_t lane = element % dkdm::random::kLanes;
    const Words w =
        example().words(5, sample, static_cast<std::uint32_t>(group * dkdm::random::kLanes + lane));
    const std::uint32_t radius_word = w[slot < 2 ? 0 : 2], angle_word = w[slot < 2 ? 1 : 3];
    // The closed form in float64: u of 31 bits; angle by quadrant and offset from its middle.
    const double radius = std::sqrt(-2 * std::log(((radius_word >> 1) + 0.5) * 0x1p-31));
    const double offset = (static_cast<double>(angle_word & 0x3fffffffu) - 0x1p29) * 0x1p-29;
    const double angle =
        std::numbers::pi / 2 * (static_cast<double>(angle_word >> 30) + offset / 2);
    const double expected = radius * (slot % 2 == 0 ? std::cos(angle) : std::sin(angle));
    CHECK(z[0][element].item<double>() == Approx(expected).epsilon(1e-6).margin(1e-6));
  }
}

TEST_CASE("random: a row is the same at any batch size, order and length", "[unit][random]") {
  const at::Tensor all = example().normal(2, 0, 7, {3, 5, 5});
  for (const std::int64_t batch : {1, 3}) {
    for (std::int64_t first = 0; first + batch <= 7; ++first) {
      CHECK(at::equal(example().normal(2, first, batch, {3, 5, 5}), all.narrow(0, first, batch)));
    }
  }
  const at::Tensor index = at::tensor({6, 0, 3}, at::kLong);
  CHECK(at::equal(example().normal(2, index, {3, 5, 5}), all.index_select(0, index)));
  CHECK(at::equal(example().normal(2, 0, 7, {20}), all.flatten(1).narrow(1, 0, 20)));
  CHECK(example().normal(2, 0, 0, {3, 5, 5}).sizes() == at::IntArrayRef({0, 3, 5, 5}));
}

TEST_CASE("random: threads do not change a result", "[unit][random]") {
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const at::Tensor normal = example().normal(0, 0, 5, {200'001});
  const at::Tensor mask = example().dropout_mask(0, 1, 0, {2, 16, 100, 101}, 0.3);
  at::set_num_threads(3);
  CHECK(at::equal(example().normal(0, 0, 5, {200'001}), normal));
  CHECK(at::equal(example().dropout_mask(0, 1, 0, {2, 16, 100, 101}, 0.3), mask));
  at::set_num_threads(before);
}

TEST_CASE("random: seed, stream, step and sample each change the numbers", "[unit][random]") {
  const auto draw = [](std::uint64_t seed, Stream stream, std::uint32_t step, std::int64_t sample) {
    return Random(seed, stream).normal(step, sample, 1, {8});
  };
  const at::Tensor base = draw(1, Stream::pool_noise, 1, 1);
  CHECK(at::equal(draw(1, Stream::pool_noise, 1, 1), base));
  CHECK_FALSE(at::equal(draw(2, Stream::pool_noise, 1, 1), base));
  CHECK_FALSE(at::equal(draw(1, Stream::pool_start, 1, 1), base));
  CHECK_FALSE(at::equal(draw(1, Stream::pool_noise, 2, 1), base));
  CHECK_FALSE(at::equal(draw(1, Stream::pool_noise, 1, 2), base));
}

TEST_CASE("random: normals have a normal's moments, tails and independence", "[unit][random]") {
  const double n = 1e6;
  const at::Tensor z = example().normal(0, 0, 1000, {1000}).to(at::kDouble);
  CHECK(std::abs(z.mean().item<double>()) < 4 / std::sqrt(n));
  CHECK(std::abs(z.square().mean().item<double>() - 1) < 4 * std::sqrt(2 / n));
  CHECK(std::abs(z.pow(3).mean().item<double>()) < 4 * std::sqrt(15 / n));
  CHECK(std::abs(z.pow(4).mean().item<double>() - 3) < 4 * std::sqrt(96 / n));
  const double tail = 0.0026997960632601866;  // 2 (1 - Phi(3))
  CHECK(std::abs((z.abs() > 3).to(at::kDouble).mean().item<double>() - tail) <
        4 * std::sqrt(tail / n));
  // Neighbours: along the row, across samples, and the two halves of a Box-Muller pair.
  for (const std::int64_t lag : {1, dkdm::random::kLanes}) {
    const at::Tensor product = z.narrow(1, 0, 1000 - lag) * z.narrow(1, lag, 1000 - lag);
    CHECK(std::abs(product.mean().item<double>()) < 4 / std::sqrt(n * 0.98));
  }
  const at::Tensor across = z.narrow(0, 0, 999) * z.narrow(0, 1, 999);
  CHECK(std::abs(across.mean().item<double>()) < 4 / std::sqrt(n * 0.999));
}

TEST_CASE("random: uniforms and integers fill their range evenly", "[unit][random]") {
  const std::int64_t n = 100'000;
  const at::Tensor u = example().uniform(3, 0, n);
  CHECK(u.min().item<double>() >= 0);
  CHECK(u.max().item<double>() < 1);
  CHECK(std::abs(u.mean().item<double>() - 0.5) < 4 * std::sqrt(1.0 / 12 / n));
  CHECK(at::equal(example().uniform(3, 50, 9), u.narrow(0, 50, 9)));

  const at::Tensor k = example().integers(3, 0, n, 10);
  CHECK(k.min().item<std::int64_t>() == 0);
  CHECK(k.max().item<std::int64_t>() == 9);
  const at::Tensor counts = at::bincount(k, {}, 10).to(at::kDouble);
  const double chi_squared = ((counts - n / 10.0).square() / (n / 10.0)).sum().item<double>();
  CHECK(chi_squared < 27.88);  // 99.9 % quantile at 9 degrees of freedom
  CHECK(at::equal(example().integers(3, 50, 9, 10), k.narrow(0, 50, 9)));
  CHECK_THROWS_WITH(example().integers(0, 0, 1, 0), Catch::Contains("bound is 0"));
}

TEST_CASE("random: choice gives distinct integers; all of them are a permutation",
          "[unit][random]") {
  const at::Tensor all = example().choice(4, 1000, 1000);
  CHECK(at::equal(std::get<0>(all.sort()), at::arange(1000, at::kLong)));
  CHECK_FALSE(at::equal(all, at::arange(1000, at::kLong)));
  // A few of many go another way inside; they are the first of the permutation.
  CHECK(at::equal(example().choice(4, 1000, 100), all.narrow(0, 0, 100)));
  CHECK_FALSE(at::equal(example().choice(5, 1000, 1000), all));

  // Every integer is as likely to be chosen: 3 of 12, 4000 times; binomial with p = 1/4.
  at::Tensor counts = at::zeros({12}, at::kLong);
  for (std::uint32_t step = 0; step < 4000; ++step) {
    counts += at::bincount(example().choice(step, 12, 3), {}, 12);
  }
  CHECK((counts - 1000).abs().max().item<std::int64_t>() < 4 * std::sqrt(4000 * 0.25 * 0.75));
  CHECK_THROWS_WITH(example().choice(0, 3, 4), Catch::Contains("4 distinct integers of 3"));
}

TEST_CASE("random: a dropout mask keeps 1 - p and has mean one", "[unit][random]") {
  for (const double p : {0.1, 0.3, 0.5}) {
    const at::Tensor mask = example().dropout_mask(0, 0, 0, {16, 64, 32, 32}, p);
    const double n = static_cast<double>(mask.numel());
    const double kept = (mask != 0).to(at::kDouble).mean().item<double>();
    CHECK(std::abs(kept - (1 - p)) < 4 * std::sqrt(p * (1 - p) / n) + 1.0 / 65536);
    CHECK(mask.max().item<double>() == Approx(1 / (1 - p)).epsilon(1e-4));  // p in 1/65536
    CHECK(at::logical_or(mask == 0, mask == mask.max()).all().item<bool>());
  }
  CHECK(at::equal(example().dropout_mask(0, 0, 0, {2, 3}, 0), at::ones({2, 3})));
  CHECK_THROWS_WITH(example().dropout_mask(0, 0, 0, {2, 3}, 1), Catch::Contains("0 <= p < 1"));
}

TEST_CASE("random: dropout belongs to sample and NHWC position", "[unit][random]") {
  const at::Tensor mask = example().dropout_mask(1, 2, 10, {7, 6, 5, 5}, 0.4);
  CHECK(mask.is_contiguous(at::MemoryFormat::ChannelsLast));
  CHECK(at::equal(example().dropout_mask(1, 2, 13, {3, 6, 5, 5}, 0.4), mask.narrow(0, 3, 3)));
  const at::Tensor flat = mask.permute({0, 2, 3, 1}).flatten(1);
  CHECK(at::equal(example().dropout_mask(1, 2, 10, {7, 150}, 0.4), flat));
  CHECK_FALSE(at::equal(example().dropout_mask(1, 3, 10, {7, 6, 5, 5}, 0.4), mask));
  CHECK_FALSE(at::equal(example().dropout_mask(2, 2, 10, {7, 6, 5, 5}, 0.4), mask));
}

TEST_CASE("random: normals by operators have the bits of the loops", "[unit][random]") {
  const auto check = [](std::uint64_t seed, Stream stream, std::uint32_t step,
                        const at::Tensor& index, std::int64_t length) {
    INFO("seed " << seed << ", step " << step << ", length " << length);
    const auto key = dkdm::random::key_of(seed, stream);
    const at::Tensor by_operators = dkdm::random::portable_normal(key, {step, {}}, index, length);
    CHECK(same_bits(by_operators, Random(seed, stream).normal(step, index, {length})));
  };
  const std::int64_t large = std::int64_t{1} << 40;
  const at::Tensor index = at::tensor({std::int64_t{5}, std::int64_t{0}, 3 * large + 7,
                                       std::int64_t{0xffffffff}, (large << 22) + 1},
                                      at::kLong);
  // Lengths around Philox blocks, groups of them, and images.
  for (const std::int64_t length : {0, 1, 15, 16, 17, 63, 64, 65, 100, 1000, 3 * 32 * 32})
    check(7, Stream::sample_start, 5, index, length);
  for (std::uint32_t stream = 1; stream <= 15; ++stream)
    check(stream, static_cast<Stream>(stream), 0, index, 96);
  check(~std::uint64_t{0}, Stream::pool_noise, 0xffffffff, index, 77);
  check(7, Stream::pool_noise, 3, index.narrow(0, 0, 0), 8);
  // More rows than are worked on at a time, and every binade that 10^7 radii are likely to meet.
  check(1, Stream::train_noise, 1, at::arange(200, at::kLong), 3 * 128 * 128);
}

TEST_CASE("random: uniforms by operators have the bits of the loops", "[unit][random]") {
  const std::int64_t large = std::int64_t{1} << 40;
  for (const std::uint64_t seed : {std::uint64_t{1}, ~std::uint64_t{0}})
    for (const std::uint32_t step : {0U, 7U, 0xffffffffU})
      for (const std::int64_t first : {std::int64_t{0}, std::int64_t{0xfffffffe}, 3 * large + 7}) {
        INFO("seed " << seed << ", step " << step << ", first " << first);
        const auto key = dkdm::random::key_of(seed, Stream::layer);
        CHECK(at::equal(dkdm::random::portable_uniform(key, {step, {}}, first, 1000, at::kCPU),
                        Random(seed, Stream::layer).uniform(step, first, 1000)));
      }
}

TEST_CASE("random: dropout by operators has the masks of the loops", "[unit][random]") {
  const auto check = [](std::int64_t first, std::uint32_t layer, at::IntArrayRef sizes, double p) {
    INFO("first " << first << ", layer " << layer << ", sizes " << sizes << ", p " << p);
    const at::Tensor expected = Random(3, Stream::dropout).dropout_mask(9, layer, first, sizes, p);
    const std::int64_t rows = sizes.empty() ? 1 : sizes[0];
    const double threshold = std::min(65535.0, std::round(p * 65536));
    const at::Tensor by_operators = dkdm::random::portable_mask(
        dkdm::random::key_of(3, Stream::dropout), {9, {}}, layer, first, rows,
        rows == 0 ? 0 : expected.numel() / rows, static_cast<std::uint32_t>(threshold),
        static_cast<float>(65536.0 / (65536.0 - threshold)), at::kCPU);
    // In memory order.
    const at::Tensor memory = sizes.size() == 4 ? expected.permute({0, 2, 3, 1}) : expected;
    CHECK(same_bits(by_operators, memory.reshape(by_operators.sizes())));
  };
  for (const std::int64_t width : {1, 7, 16, 63, 64, 65}) check(0, 1, {3, width, 3, 3}, 0.1);
  for (const double p : {0.0, 1e-6, 0.5, 0.999999}) check(4, 0, {2, 500}, p);
  check(0xfffffffe, 0xffffffff, {4, 130}, 0.3);  // samples beyond 2^32 begin again
  check(1, 2, {0, 5}, 0.3);
  check(1, 2, {}, 0.3);
  check(0, 3, {64, 128, 32, 32}, 0.2);  // 2^20 blocks
}
