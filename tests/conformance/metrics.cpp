// Metrics against numbers of the authors' evaluator (guided-diffusion's evaluations/evaluator.py as
// the paper uses it, run with numpy and scipy on features made by the fill of golden/u_fill.hpp).
#include <catch2/catch.hpp>

#include "golden/u_fill.hpp"
#include "metrics/frechet.hpp"
#include "metrics/inception_score.hpp"

using dkdm::golden::u;
using dkdm::metrics::Moments;

namespace {

// f32 [rows,columns]: offset + scale * u(i,j)^2, in float64 before the cast.
at::Tensor squares(std::int64_t i, std::int64_t rows, std::int64_t columns, double offset,
                   double scale) {
  at::Tensor filled = at::empty({rows, columns}, at::kDouble);
  double* out = filled.mutable_data_ptr<double>();
  for (std::int64_t j = 0; j < filled.numel(); ++j) out[j] = offset + scale * u(i, j) * u(i, j);
  return filled.to(at::kFloat);
}

dkdm::metrics::Gaussian gaussian(const at::Tensor& features) {
  Moments moments;
  moments.add(features);
  return moments.gaussian();
}

// Expected values are printed to eight digits; their mean was taken in float32.
Approx golden(double value) { return Approx(value).epsilon(1e-6); }

}  // namespace

TEST_CASE("frechet: agrees with the Schur square root of the authors' evaluator",
          "[conformance][metrics]") {
  const auto a = gaussian(squares(7000, 40, 8, 0, 1));
  const auto b = gaussian(squares(7001, 50, 8, 0.5, 1.2));
  CHECK(a.covariance.trace().item<double>() == golden(0.67120067));
  CHECK(b.covariance.trace().item<double>() == golden(1.0086272));
  CHECK(dkdm::metrics::frechet_distance(a, b) == golden(2.8551150));
  CHECK(dkdm::metrics::frechet_distance(b, a) == golden(2.8551150));
}

TEST_CASE("frechet: fewer samples than dimensions give the authors' value",
          "[conformance][metrics]") {
  const auto a = gaussian(squares(7000, 40, 8, 0, 1));
  const auto c = gaussian(squares(7003, 5, 8, 0, 1));
  CHECK(dkdm::metrics::frechet_distance(a, c) == golden(0.8267690));
}

TEST_CASE("inception score: splits as the authors' evaluator, the short last one counts fully",
          "[conformance][metrics]") {
  const at::Tensor p = at::softmax(squares(7002, 30, 10, 0, 6).to(at::kDouble), 1);
  using dkdm::metrics::inception_score;
  CHECK(inception_score(p, 12) == golden(1.0322055));
  CHECK(inception_score(p, 30) == golden(1.0367378));
  CHECK(inception_score(p, 0) == golden(1.0367378));
  CHECK(inception_score(p.slice(0, 0, 12), 12) == golden(1.0418509));
  CHECK(inception_score(p.slice(0, 12, 24), 12) == golden(1.0438876));
  CHECK(inception_score(p.slice(0, 24, 30), 12) == golden(1.0108775));
}
