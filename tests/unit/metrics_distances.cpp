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
  const at::Tensor rotation =
      std::get<0>(at::linalg_qr(dkdm::golden::u_fill(3, {5, 5}))).to(at::kDouble);
  const double plain = frechet_distance(of(a), of(b));
  CHECK(plain > 0.05);  // something to change
  // The rotation is orthogonal to f32 rounding.
  CHECK(frechet_distance(of(a.mm(rotation)), of(b.mm(rotation))) == Approx(plain).epsilon(1e-5));
}

TEST_CASE("frechet: a set against itself is zero within rounding, full rank or not",
          "[unit][metrics]") {
  // A sum of squares of rounding errors: (2^-52)^2 a number, where a difference of traces would
  // leave 2^-52 and the root of a rounded eigenvalue 2^-26. The rows of 200 x 200 go through the
  // iteration, those of 20 through LAPACK.
  for (const std::int64_t size : {20, 200}) {
    const auto normal =
        dkdm::Random(1, dkdm::Stream::evaluator).normal(0, 0, 2 * size, {size}).to(at::kDouble);
    CHECK(frechet_distance(of(normal), of(normal)) < 1e-24);
    const auto few = normal.narrow(0, 0, size / 4);
    CHECK(frechet_distance(of(few), of(few)) < 1e-24);
  }
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

TEST_CASE("frechet: a variance that rounding left below zero counts as none", "[unit][metrics]") {
  const auto reference = diagonal({0.37, 1}, {0, 2}), rounded = diagonal({0.37, 1}, {-1.9e-16, 2});
  const auto other = diagonal({0.5, 2}, {1, 3});
  CHECK(frechet_distance(other, rounded) ==
        Approx(frechet_distance(other, reference)).epsilon(1e-12));
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
  CHECK_THROWS_WITH(inception_score(at::full({1, 2}, std::numeric_limits<double>::quiet_NaN()), 0),
                    Catch::Contains("not finite"));
}

TEST_CASE("inception score: streamed, merged and through a state it is the whole set's",
          "[unit][metrics]") {
  const auto p = at::softmax(dkdm::golden::u_fill(9, {230, 7}, 4).pow(2).to(at::kDouble), 1);
  const double whole = inception_score(p, 50);
  dkdm::metrics::InceptionScore front, back;
  for (std::int64_t first = 0; first < 230; first += 33) {
    const auto batch = p.slice(0, first, first + 33);
    (first < 100 ? front : back)
        .add(batch, dkdm::metrics::consecutive_splits(first, batch.size(0), 50));
  }
  CHECK(front.count() + back.count() == 230);
  auto merged = dkdm::metrics::InceptionScore::from_state(back.state());
  merged.merge(front);
  merged.merge(
      dkdm::metrics::InceptionScore::from_state({dkdm::metrics::InceptionScore().state()}));
  CHECK(merged.value().splits == 5);
  CHECK(merged.value().mean == Approx(whole).epsilon(1e-13));
  CHECK(merged.value().deviation > 0);
  CHECK_THROWS_WITH(merged.add(p.slice(1, 0, 6), at::zeros({230}, at::kLong)),
                    Catch::Contains("7 and 6"));
  CHECK_THROWS_WITH(merged.add(p, at::full({230}, -1, at::kLong)), Catch::Contains("split -1"));
  CHECK_THROWS_WITH(merged.add(p, at::zeros({229}, at::kLong)), Catch::Contains("230"));
}

TEST_CASE("inception score: shuffled splits cut the permuted order", "[unit][metrics]") {
  // Order 4 2 0 3 1 in two parts, of 2 (5 / 2 rounded down) and 3: 4 and 2 are the first.
  CHECK(dkdm::metrics::shuffled_splits(at::tensor({4, 2, 0, 3, 1}, at::kLong), 2)
            .equal(at::tensor({1, 1, 0, 1, 0}, at::kLong)));
}
