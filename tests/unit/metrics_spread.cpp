// Spread of values, extrapolation to infinitely many samples, bootstrap.
#include <ATen/ATen.h>

#include <catch2/catch.hpp>
#include <cmath>

#include "dkdm/random.hpp"
#include "metrics/spread.hpp"

using namespace dkdm::metrics;
using dkdm::Random;
using dkdm::Stream;

namespace {

at::Tensor normal(std::uint32_t step, std::int64_t rows, std::int64_t columns) {
  return Random(5, Stream::evaluator).normal(step, 0, rows, {columns});
}

Gaussian gaussian(const at::Tensor& features) {
  Moments moments;
  moments.add(features);
  return moments.gaussian();
}

const Draw kWithReplacement = [](std::int64_t step, std::int64_t count) {
  return Random(9, Stream::bootstrap).integers(static_cast<std::uint32_t>(step), 0, count, count);
};

}  // namespace

TEST_CASE("spread: mean and deviation of several values, of one, of none", "[unit][metrics]") {
  const auto three = spread({1, 2, 6});
  CHECK(three.mean == Approx(3));
  CHECK(three.deviation == Approx(std::sqrt(7.0)));  // (4 + 1 + 9) / 2
  CHECK(three.count == 3);
  CHECK(spread({4}).deviation == 0);
  CHECK_THROWS_WITH(spread({}), Catch::Contains("no values"));
}

TEST_CASE("extrapolate: least squares in 1/count", "[unit][metrics]") {
  // 3 + 500 / count exactly.
  const auto line = extrapolate({100, 200, 500}, {8, 5.5, 4});
  CHECK(line.intercept == Approx(3).epsilon(1e-12));
  CHECK(line.slope == Approx(500).epsilon(1e-12));
  CHECK(line.error < 1e-12);
  // x = 1, 1/2, 1/4, 1/4; y = 2, 0, 1, 1: by hand x mean 1/2, Sxx 3/8, Sxy 1/2, slope 4/3,
  // intercept 1/3; residuals 1/3, -1, 1/3, 1/3 (squares 12/9); error^2 = 2/3 (1/4 + (1/4)/(3/8)).
  const auto scattered = extrapolate({1, 2, 4, 4}, {2, 0, 1, 1});
  CHECK(scattered.slope == Approx(4.0 / 3).epsilon(1e-12));
  CHECK(scattered.intercept == Approx(1.0 / 3).epsilon(1e-12));
  CHECK(scattered.error == Approx(std::sqrt(2.0 / 3 * (1.0 / 4 + 2.0 / 3))).epsilon(1e-12));
  CHECK_THROWS_WITH(extrapolate({7, 7}, {1, 2}), Catch::Contains("two different counts"));
  CHECK_THROWS_WITH(extrapolate({7, 8}, {1}), Catch::Contains("2 counts for 1"));
}

TEST_CASE("evenly spaced: both ends, rounded down between", "[unit][metrics]") {
  CHECK(evenly_spaced(10, 21, 4) == std::vector<std::int64_t>{10, 13, 17, 21});
  CHECK(evenly_spaced(5000, 50000, 15).at(1) == 8214);  // numpy: int(linspace(5000, 50000, 15)[1])
  CHECK_THROWS_WITH(evenly_spaced(50, 50, 15), Catch::Contains("from 50 to 50"));
}

TEST_CASE("FID at several counts: extrapolated, the bias of few samples is gone",
          "[unit][metrics]") {
  // Samples of the reference's own distribution: the distance is 0, what is seen is bias.
  const FrechetReference reference({at::zeros({10}, at::kDouble), at::eye(10, at::kDouble), 0});
  const auto features = normal(0, 4000, 10);
  const Draw subset = [](std::int64_t step, std::int64_t count) {
    return Random(2, Stream::evaluator).choice(static_cast<std::uint32_t>(step), 4000, count);
  };
  const auto counts = evenly_spaced(400, 4000, 10);
  const auto values = frechet_at_counts(features, reference, counts, subset);
  CHECK(values.back() == Approx(reference.distance(gaussian(features))).epsilon(1e-12));
  CHECK(values.front() > 0.04);  // about (10 + 10 * 11 / 8) / 400
  const auto line = extrapolate(counts, values);
  CHECK(std::abs(line.intercept) < 0.004);
  CHECK(std::abs(line.intercept) < 4 * line.error);
}

TEST_CASE("resampled moments: those of the vectors repeated", "[unit][metrics]") {
  const auto features = normal(1, 300, 6).add(4);
  const auto indices = kWithReplacement(7, 300);
  const auto fast = resampled_gaussian(features, indices);
  const auto plain = gaussian(features.index_select(0, indices));
  CHECK(fast.count == 300);
  CHECK((fast.mean - plain.mean).abs().max().item<double>() < 1e-14);
  CHECK((fast.covariance - plain.covariance).abs().max().item<double>() < 1e-13);
}

TEST_CASE("bootstrap: a mean's deviation and interval are those of theory, laid at the value",
          "[unit][metrics]") {
  const auto values = normal(2, 2000, 1).flatten().to(at::kDouble);
  const auto interval = bootstrap(10.0, 2000, 400, 0.95, kWithReplacement, [&](const auto& index) {
    return values.index_select(0, index).mean().template item<double>();
  });
  // To what 400 resamples give, three times over: 1/sqrt(800) of the deviation, and 0.13 of it at
  // the 2.5 % quantiles, sqrt(0.025 * 0.975 / 400) over the normal density there.
  const double sigma = values.std().item<double>() / std::sqrt(2000.0);
  CHECK(interval.deviation == Approx(sigma).epsilon(0.11));
  CHECK(interval.low == Approx(10 - 1.96 * sigma).epsilon(0).margin(0.4 * sigma));
  CHECK(interval.high == Approx(10 + 1.96 * sigma).epsilon(0).margin(0.4 * sigma));
  CHECK_THROWS_WITH(bootstrap(0, 5, 1, 0.95, kWithReplacement, [](const auto&) { return 0.0; }),
                    Catch::Contains("1 resamples"));
  CHECK_THROWS_WITH(bootstrap(0, 5, 9, 95, kWithReplacement, [](const auto&) { return 0.0; }),
                    Catch::Contains("95"));
}
