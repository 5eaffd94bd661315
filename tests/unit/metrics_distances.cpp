// Fréchet distance and Inception Score where a closed form is known, and at their edges.
#include <ATen/ATen.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "dkdm/random.hpp"
#include "golden/u_fill.hpp"
#include "metrics/frechet.hpp"
#include "metrics/inception_score.hpp"

using dkdm::metrics::frechet_distance;
using dkdm::metrics::Gaussian;
using dkdm::metrics::inception_score;

namespace {

Gaussian diagonal(const std::vector<double>& mean, const std::vector<double>& variance) {
  return {at::tensor(mean, at::kDouble), at::diag(at::tensor(variance, at::kDouble)), 100};
}

Gaussian of(const at::Tensor& features) {
  dkdm::metrics::Moments moments;
  moments.add(features);
  return moments.gaussian();
}

}  // namespace

TEST_CASE("frechet: commuting covariances have the closed form", "[unit][metrics]") {
  // |m1 - m2|^2 + sum (s1 - s2)^2 of the standard deviations: 9 + 16 + 0 + (1 - 2)^2 + (3 - 5)^2.
  CHECK(frechet_distance(diagonal({0, 4, 1}, {1, 9, 4}), diagonal({3, 0, 1}, {4, 25, 4})) ==
        Approx(30).epsilon(1e-12));
  // Isotropic in 300 dimensions: 300 (2 - 1)^2.
  const std::vector<double> zero(300, 0);
  CHECK(frechet_distance(diagonal(zero, std::vector<double>(300, 1)),
                         diagonal(zero, std::vector<double>(300, 4))) ==
        Approx(300).epsilon(1e-12));
}

TEST_CASE("frechet: a rotation of both sides changes nothing", "[unit][metrics]") {
  const at::Tensor a = dkdm::golden::u_fill(1, {60, 5}).to(at::kDouble).pow(2);
  const at::Tensor b = dkdm::golden::u_fill(2, {70, 5}).to(at::kDouble).pow(3) + 0.2;
  const at::Tensor rotation = std::get<0>(at::linalg_qr(dkdm::golden::u_fill(3, {5, 5})))
                                  .to(at::kDouble);
  const double plain = frechet_distance(of(a), of(b));
  CHECK(plain > 0.05);  // something to change
  // The rotation is orthogonal to f32 rounding.
  CHECK(frechet_distance(of(a.mm(rotation)), of(b.mm(rotation))) == Approx(plain).epsilon(1e-5));
}

TEST_CASE("frechet: a set against itself is zero within rounding, full rank or not",
          "[unit][metrics]") {
  const auto full =
      of(dkdm::Random(1, dkdm::Stream::evaluator).normal(0, 0, 200, {20}).to(at::kDouble));
  CHECK(std::abs(frechet_distance(full, full)) < 1e-12);
  // 5 vectors in 20 dimensions: sixteen eigenvalues are zero but for rounding, and no root of that
  // rounding, about 1e-8, is left.
  const auto flat = of(dkdm::golden::u_fill(5, {5, 20}).pow(2));
  CHECK(std::abs(frechet_distance(flat, flat)) < 1e-13);
  const auto nothing = diagonal({1, 2}, {0, 0});
  CHECK(frechet_distance(nothing, nothing) == 0);
}

TEST_CASE("frechet: what is no pair of covariances is an error, never NaN", "[unit][metrics]") {
  const auto good = diagonal({0, 0}, {1, 1});
  CHECK_THROWS_WITH(frechet_distance(good, diagonal({0, 0, 0}, {1, 1, 1})),
                    Catch::Contains("2 and 3"));
  CHECK_THROWS_WITH(
      frechet_distance(good, diagonal({0, std::numeric_limits<double>::quiet_NaN()}, {1, 1})),
      Catch::Contains("not finite"));
  CHECK_THROWS_WITH(
      frechet_distance(good, diagonal({0, 0}, {1, std::numeric_limits<double>::infinity()})),
      Catch::Contains("not finite"));
  CHECK_THROWS_WITH(frechet_distance(good, diagonal({0, 0}, {1, -3})),
                    Catch::Contains("-3") && Catch::Contains("covariance"));
  // Eigenvalues 3 and -1: given the first, the second feature's variance would be 1 - 4 = -3.
  const Gaussian crossed{at::zeros({2}, at::kDouble),
                         at::tensor({1., 2., 2., 1.}, at::kDouble).view({2, 2}), 100};
  CHECK_THROWS_WITH(frechet_distance(good, crossed),
                    Catch::Contains("-3") && Catch::Contains("covariance"));
}

TEST_CASE("inception score: certain and even over k classes gives k; no preference gives 1",
          "[unit][metrics]") {
  // KL of a certain row to the uniform marginal is log k.
  CHECK(inception_score(at::eye(10, at::kDouble).repeat({3, 1}), 0) == Approx(10).epsilon(1e-12));
  CHECK(inception_score(at::full({7, 10}, 0.1), 0) == Approx(1).epsilon(1e-12));
  // Within each split of 2, one class alone: 1, although the whole set has two classes: 2.
  const at::Tensor sorted = at::tensor({1., 0., 1., 0., 0., 1., 0., 1.}).view({4, 2});
  CHECK(inception_score(sorted, 2) == Approx(1).epsilon(1e-12));
  CHECK(inception_score(sorted, 0) == Approx(2).epsilon(1e-12));
  // Splits of 3: marginal (2/3, 1/3) gives exp(2/3 log 3/2 + 1/3 log 3); the last row alone 1.
  CHECK(inception_score(sorted, 3) ==
        Approx((std::exp((2 * std::log(1.5) + std::log(3.0)) / 3) + 1) / 2).epsilon(1e-12));
}

TEST_CASE("inception score: nothing and nonsense are refused", "[unit][metrics]") {
  CHECK_THROWS_WITH(inception_score(at::empty({0, 10}), 0), Catch::Contains("no samples"));
  CHECK_THROWS_WITH(inception_score(at::tensor({-0.5, 1.5}).view({1, 2}), 0),
                    Catch::Contains("negative"));
  CHECK_THROWS_WITH(
      inception_score(at::full({1, 2}, std::numeric_limits<double>::quiet_NaN()), 0),
      Catch::Contains("not finite"));
}
