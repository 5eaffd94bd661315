// Fréchet distances against 50-digit values (golden/make_frechet.py).
#include <ATen/ATen.h>

#include <catch2/catch.hpp>
#include <cmath>

#include "fixtures/golden_file.hpp"
#include "metrics/frechet.hpp"

using dkdm::fixtures::golden_json;
using dkdm::fixtures::Json;

namespace {

at::Tensor vector_of(const Json& numbers) {
  return at::tensor(numbers.get<std::vector<double>>(), at::kDouble);
}

dkdm::metrics::Gaussian gaussian(const Json& side) {
  std::vector<at::Tensor> rows;
  for (const auto& row : side.at("factor")) rows.push_back(vector_of(row));
  const auto factor = at::stack(rows);
  return {vector_of(side.at("mean")), factor.mm(factor.t()) / 64, 0};  // exact in float64
}

}  // namespace

TEST_CASE(
    "frechet: 50-digit values of random, rank-deficient, nearly equal and one-dimensional "
    "Gaussians",
    "[conformance][metrics]") {
  const auto cases = golden_json("frechet.json").at("cases");
  REQUIRE(cases.size() > 25);
  for (const auto& entry : cases) {
    const std::string name = entry.at("name");
    const auto a = gaussian(entry.at("a")), b = gaussian(entry.at("b"));
    const double expected = std::stod(entry.at("distance").get<std::string>());
    const double of_traces = expected / entry.at("traces").get<double>();
    for (const double distance :
         {dkdm::metrics::frechet_distance(a, b), dkdm::metrics::frechet_distance(b, a)}) {
      CAPTURE(name, of_traces);
      CHECK(distance >= 0);
      // What float64 allows: the factors are right to 2^-52 of the root of the traces, so the
      // distance's root is right to a few of that.
      const double relative = std::abs(distance - expected) / expected;
      CHECK(relative <= 1e-15 + 4e-15 / std::sqrt(of_traces));
      if (of_traces > 1e-12) CHECK(relative < 1e-9);
    }
  }
}
