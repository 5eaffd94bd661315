// Streaming moments against the textbook formula, and where that formula loses its digits.
#include <ATen/ATen.h>

#include <catch2/catch.hpp>

#include "golden/u_fill.hpp"
#include "metrics/moments.hpp"

using dkdm::golden::u_fill;
using dkdm::metrics::Moments;

namespace {

Moments moments(const at::Tensor& features) {
  Moments moments;
  moments.add(features);
  return moments;
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
  // A batch's mean is rounded to 1e8 * 2^-53 = 1e-8, which enters the covariance times its spread.
  CHECK(largest_difference(far.covariance, near.covariance) < 1e-7);
  CHECK(near.covariance.diagonal().min().item<double>() > 0.3);  // uniform on [-1,1): 1/3
}

TEST_CASE("moments: one vector and vectors of another dimension are refused", "[unit][metrics]") {
  Moments one = moments(u_fill(3, {1, 4}));
  CHECK_THROWS_WITH(one.gaussian(), Catch::Contains("at least 2") && Catch::Contains("are 1"));
  CHECK_THROWS_WITH(one.add(u_fill(3, {2, 5})), Catch::Contains("4 and 5"));
  one.add(at::empty({0, 4}));
  CHECK(one.count() == 1);
}
