// Streaming moments against the textbook formula, and where that formula loses its digits.
#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <fstream>
#include <string>

#include "golden/u_fill.hpp"
#include "metrics/moments.hpp"
#include "sanitized.hpp"

using dkdm::golden::u_fill;
using dkdm::metrics::Moments;

namespace {

Moments moments(const at::Tensor& features) {
  Moments moments;
  moments.add(features);
  return moments;
}

std::int64_t peak_kilobytes() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    std::int64_t value = 0;
    if (word == "VmHWM:" && status >> value) return value;
  }
  return 0;
}

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

}  // namespace

TEST_CASE("moments: a hand-computed mean and covariance, divisor n - 1", "[unit][metrics]") {
  // Rows (1,2), (3,6), (5,4): mean (3,4); deviations (-2,-2), (0,2), (2,0).
  const auto gaussian = moments(at::tensor({1., 2., 3., 6., 5., 4.}).view({3, 2})).gaussian();
  CHECK(gaussian.count == 3);
  CHECK(gaussian.mean.equal(at::tensor({3., 4.}, at::kDouble)));
  CHECK(gaussian.covariance.equal(at::tensor({4., 2., 2., 4.}, at::kDouble).view({2, 2})));
}

TEST_CASE("moments: batches of any size and merged parts give the whole set's", "[unit][metrics]") {
  const at::Tensor features = u_fill(1, {1000, 6});
  const auto whole = moments(features).gaussian();
  Moments streamed;
  for (std::int64_t first = 0; first < 1000; first += 7)
    streamed.add(features.slice(0, first, std::min<std::int64_t>(1000, first + 7)));
  Moments merged = moments(features.slice(0, 0, 1));
  merged.merge(Moments());
  merged.merge(moments(features.slice(0, 1, 900)));
  merged.merge(moments(features.slice(0, 900, 1000)));
  // Rounding of sums of a thousand numbers of size 1 in f64.
  for (const auto& part : {streamed.gaussian(), merged.gaussian()}) {
    CHECK(part.count == 1000);
    CHECK(largest_difference(part.mean, whole.mean) < 1e-14);
    CHECK(largest_difference(part.covariance, whole.covariance) < 1e-14);
  }
}

TEST_CASE("moments: a mean a hundred million times the spread costs no digits", "[unit][metrics]") {
  const at::Tensor small = u_fill(2, {512, 3}).to(at::kDouble);
  // Multiples of 2^-20, so that adding 1e8 is exact and the covariance the same. The sum of squares
  // less the squared mean would be wrong by about 1e16 * 2^-53 = 1.
  const at::Tensor coarse = (small * 1048576.0).round() / 1048576.0;
  const auto near = moments(coarse).gaussian();
  Moments streamed;
  for (const auto& part : (coarse + 1e8).split(64)) streamed.add(part);
  const auto far = streamed.gaussian();
  // The mean is kept to twice float64's digits, so its rounding to 1e-8 does not enter.
  CHECK(largest_difference(far.covariance, near.covariance) < 1e-14);
  CHECK(near.covariance.diagonal().min().item<double>() > 0.3);  // uniform on [-1,1): 1/3
}

TEST_CASE("moments: the sizes of the batches change no bit", "[unit][metrics]") {
  const at::Tensor features = u_fill(4, {1000, 5}).add(3);
  const auto whole = moments(features).gaussian();
  for (const std::int64_t size : {1, 50, 256, 300}) {
    Moments streamed;
    for (const auto& batch : features.split(size)) streamed.add(batch);
    CHECK(streamed.gaussian().mean.equal(whole.mean));
    CHECK(streamed.gaussian().covariance.equal(whole.covariance));
  }
}

TEST_CASE("moments: shards merge in every order to 1e-12, a large mean or not", "[unit][metrics]") {
  for (const double mean : {0.0, 0.4, 1e4, 1e8}) {
    INFO(mean);
    const at::Tensor features = (u_fill(6, {1500, 4}).to(at::kDouble) * 1048576).round() / 1048576;
    const auto plain = at::cov(features.t());
    const auto shards = (features + mean).split_with_sizes({1, 700, 40, 256, 503});
    std::array order{0, 1, 2, 3, 4};
    do {
      Moments merged;
      for (const int i : order) merged.merge(moments(shards[std::size_t(i)]));
      const auto result = merged.gaussian();
      REQUIRE(result.count == 1500);
      REQUIRE(largest_difference(result.covariance, plain) < 1e-12);
      REQUIRE(largest_difference(result.mean - mean, features.mean(0)) <=
              1e-12 + 1.2e-16 * mean);  // the mean itself is a float64
    } while (std::next_permutation(order.begin(), order.end()));
  }
}

TEST_CASE("moments: a state goes on to the bit, and a copy shares nothing", "[unit][metrics]") {
  const at::Tensor features = u_fill(7, {900, 5});
  Moments through = moments(features);
  for (const std::int64_t cut : {0, 100, 512, 700}) {
    Moments first = cut == 0 ? Moments() : moments(features.slice(0, 0, cut));
    Moments second = Moments::from_state(first.state());
    const Moments kept = second;
    second.add(features.slice(0, cut));
    CHECK(second.gaussian().covariance.equal(through.gaussian().covariance));
    CHECK(second.gaussian().mean.equal(through.gaussian().mean));
    CHECK(kept.count() == cut);
    if (cut > 0)
      CHECK(kept.gaussian().covariance.equal(
          moments(features.slice(0, 0, cut)).gaussian().covariance));
  }
  auto state = through.state();
  state["scatter"] = at::zeros({5, 4}, at::kDouble);
  CHECK_THROWS_WITH(Moments::from_state(state),
                    Catch::Contains("'scatter'") && Catch::Contains("[5, 4]"));
  state.erase("scatter");
  CHECK_THROWS_WITH(Moments::from_state(state), Catch::Contains("'scatter' is missing"));
}

TEST_CASE("moments: memory does not grow with the vectors", "[unit][metrics]") {
  const at::Tensor batch = u_fill(8, {500, 128});
  Moments streamed;
  for (int i = 0; i < 4; ++i) streamed.add(batch);
  const auto before = peak_kilobytes();
  REQUIRE(before > 0);
  for (int i = 0; i < 200; ++i) streamed.add(batch);
  CHECK(streamed.count() == 102000);
  if (!kSanitized) CHECK(peak_kilobytes() - before < 4096);  // the vectors are 50 MB in f32
}

TEST_CASE("moments: one vector and vectors of another dimension are refused", "[unit][metrics]") {
  Moments one = moments(u_fill(3, {1, 4}));
  CHECK_THROWS_WITH(one.gaussian(), Catch::Contains("at least 2") && Catch::Contains("are 1"));
  CHECK_THROWS_WITH(one.add(u_fill(3, {2, 5})), Catch::Contains("4 and 5"));
  one.add(at::empty({0, 4}));
  CHECK(one.count() == 1);
}
