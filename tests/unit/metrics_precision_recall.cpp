// Precision and recall where the answer is seen by eye, and where float32 distances would be wrong.
#include <ATen/ATen.h>

#include <catch2/catch.hpp>
#include <limits>

#include "dkdm/random.hpp"
#include "metrics/precision_recall.hpp"

using dkdm::metrics::manifold;
using dkdm::metrics::precision_recall;

namespace {

at::Tensor normal(std::uint32_t step, std::int64_t rows, std::int64_t columns) {
  return dkdm::Random(3, dkdm::Stream::evaluator).normal(step, 0, rows, {columns});
}

// The definition in f64.
at::Tensor brute_radii(const at::Tensor& features, std::int64_t k) {
  const auto x = features.to(at::kDouble);
  const auto distances = (x.unsqueeze(1) - x.unsqueeze(0)).square().sum(2);
  return std::get<0>(distances.sort(1)).select(1, k);
}

double largest_relative(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).abs() / b.clamp_min(1e-300)).max().item<double>();
}

}  // namespace

TEST_CASE("precision and recall: on a line, by hand", "[unit][metrics]") {
  // k = 1: radii of 0, 1, 3, 10 are 1, 1, 2, 7, squared; of 2, 4.5, 30: 2.5, 2.5, 25.5.
  const auto reference = manifold(at::tensor({0.f, 1.f, 3.f, 10.f}).view({4, 1}), 1);
  const auto samples = manifold(at::tensor({2.f, 4.5f, 30.f}).view({3, 1}), 1);
  CHECK(reference.radii.equal(at::tensor({1., 1., 4., 49.}, at::kDouble)));
  CHECK(samples.radii.equal(at::tensor({6.25, 6.25, 650.25}, at::kDouble)));
  const auto result = precision_recall(reference, samples);
  // 2 is on the surface of 1's ball, 4.5 within 3's, 30 in none.
  CHECK(result.samples_inside.equal(at::tensor({1, 1, 0}).to(at::kBool)));
  CHECK(result.precision == Approx(2.0 / 3));
  // 0, 1 and 3 are within 2's ball, 10 within 30's.
  CHECK(result.recall == 1);
}

TEST_CASE("precision and recall: radii are those of f64 brute force, in blocks of any size",
          "[unit][metrics]") {
  const auto features = normal(0, 150, 40);
  for (const std::int64_t block : {1, 7, 64, 150, 2048}) {
    INFO(block);
    CHECK(largest_relative(manifold(features, 3, block).radii, brute_radii(features, 3)) < 1e-14);
  }
}

TEST_CASE("precision and recall: a spread of a ten-thousandth of the mean, and an outlier",
          "[unit][metrics]") {
  // |u|^2 is about 40,000 and distances 1e-6, below a float32's digits there. The outlier moves the
  // centre away from everything, so that bounds say nothing and the exact distances decide.
  auto features = normal(1, 120, 40).mul(1e-4).add(30);
  CHECK(largest_relative(manifold(features, 3, 32).radii, brute_radii(features, 3)) < 1e-13);
  features[17].mul_(1e4);
  CHECK(largest_relative(manifold(features, 3, 32).radii, brute_radii(features, 3)) < 1e-13);
  const auto set = manifold(features, 3);
  const auto itself = precision_recall(set, set);
  CHECK(itself.precision == 1);
  CHECK(itself.recall == 1);
}

TEST_CASE("precision and recall: more equals than neighbours are looked for", "[unit][metrics]") {
  // A generator that has collapsed: radius 0, and it holds nothing but itself.
  const auto reference = normal(2, 100, 16);
  const auto collapsed = reference[5].expand({80, 16});
  const auto samples = manifold(collapsed);
  CHECK(samples.radii.equal(at::zeros({80}, at::kDouble)));
  const auto result = precision_recall(manifold(reference), samples);
  CHECK(result.precision == 1);
  CHECK(result.recall == 0.01);
}

TEST_CASE("precision and recall: too few, not finite, too large or of another dimension is refused",
          "[unit][metrics]") {
  CHECK_THROWS_WITH(manifold(normal(3, 3, 4), 3),
                    Catch::Contains("3 nearest") && Catch::Contains("3 vectors"));
  CHECK_THROWS_WITH(manifold(normal(3, 8, 4).log(), 3), Catch::Contains("not finite"));
  CHECK_THROWS_WITH(manifold(normal(3, 8, 4).mul(1e30), 3), Catch::Contains("too large"));
  CHECK_THROWS_WITH(precision_recall(manifold(normal(3, 8, 4)), manifold(normal(3, 8, 5))),
                    Catch::Contains("4 and 5"));
}
