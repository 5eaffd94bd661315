// Metrics against numbers of the authors' evaluator (guided-diffusion's evaluations/evaluator.py as
// the paper uses it, run with numpy and scipy on features made by the fill of golden/u_fill.hpp),
// and of pytorch-fid, torch-fidelity and numpy (golden/metrics.json).
#include <catch2/catch.hpp>

#include "dkdm/numpy_choice.hpp"
#include "fixtures/golden_file.hpp"
#include "golden/u_fill.hpp"
#include "metrics/float32_mean.hpp"
#include "metrics/frechet.hpp"
#include "metrics/inception_score.hpp"
#include "metrics/precision_recall.hpp"

using dkdm::fixtures::golden_json;
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

TEST_CASE("precision and recall: the authors' values, their f32 distances being ours",
          "[conformance][metrics]") {
  const auto reference = dkdm::metrics::manifold(squares(7000, 40, 8, 0, 1));
  const auto samples = dkdm::metrics::manifold(squares(7001, 50, 8, 0.5, 1.2));
  CHECK(reference.radii[0].item<double>() == golden(0.08900106));
  const auto result = precision_recall(reference, samples);
  CHECK(result.precision == Approx(0.68).epsilon(1e-12));
  CHECK(result.recall == Approx(0.20).epsilon(1e-12));
}

TEST_CASE("frechet: pytorch-fid's and torch-fidelity's values of the same features",
          "[conformance][metrics]") {
  const auto expected = golden_json("metrics.json");
  const auto a = squares(7010, 400, 24, 0, 1), b = squares(7011, 300, 24, 0.1, 1.1);
  const auto few = squares(7012, 15, 24, 0, 1);
  const auto mean32 = [](const at::Tensor& features) {
    dkdm::metrics::Float32Mean mean;
    mean.add(features);
    auto result = gaussian(features);
    result.mean = mean.mean();
    return result;
  };
  for (const auto& [name, other] : {std::pair{"frechet", b}, std::pair{"frechet_few", few}}) {
    INFO(name);
    // Where one side has too few vectors, its zero eigenvalues cost pytorch-fid's square root and
    // torch-fidelity's roots of eigenvalues half their digits.
    const bool few_vectors = name == std::string("frechet_few");
    const double peers = few_vectors ? 3e-5 : 1e-7, own = few_vectors ? 1e-7 : 1e-12;
    const auto& values = expected.at(name);
    const double distance = dkdm::metrics::frechet_distance(gaussian(a), gaussian(other));
    CHECK(distance == Approx(values.at("exact").get<double>()).epsilon(own));
    CHECK(distance == Approx(values.at("pytorch-fid").get<double>()).epsilon(peers));
    // Means in float32, whose squared difference torch-fidelity takes in float32 too.
    CHECK(dkdm::metrics::frechet_distance(mean32(a), mean32(other)) ==
          Approx(values.at("torch-fidelity").get<double>()).epsilon(peers));
  }
}

TEST_CASE("float32 mean: numpy's to the bit, in batches of any size", "[conformance][metrics]") {
  const auto features = squares(7014, 20000, 5, 0.3, 0.4);
  dkdm::metrics::Float32Mean mean;
  for (const auto& batch : features.split(777)) mean.add(batch);
  const auto expected = golden_json("metrics.json").at("float32_mean").get<std::vector<double>>();
  CHECK(mean.mean().equal(at::tensor(expected, at::kDouble)));
  // That is not the mean: the sum has drifted.
  CHECK((mean.mean() - features.to(at::kDouble).mean(0)).abs().max().item<double>() > 1e-6);
}

TEST_CASE("inception score: torch-fidelity's mean and deviation over shuffled splits",
          "[conformance][metrics]") {
  const auto logits = squares(7013, 305, 10, 0, 6);
  const auto probabilities = at::softmax(logits.to(at::kDouble), 1);
  const auto order = dkdm::NumpyChoice(2020).choice(305, 305);
  const auto splits = dkdm::metrics::shuffled_splits(at::tensor(order, at::kLong), /*splits=*/10);
  dkdm::metrics::InceptionScore score;
  for (std::int64_t first = 0; first < 305; first += 32)
    score.add(probabilities.slice(0, first, first + 32), splits.slice(0, first, first + 32));
  const auto expected = golden_json("metrics.json").at("inception_score");
  CHECK(score.value().splits == 10);
  CHECK(score.value().mean == Approx(expected.at("mean").get<double>()).epsilon(1e-12));
  CHECK(score.value().deviation == Approx(expected.at("deviation").get<double>()).epsilon(1e-10));
}

TEST_CASE("precision and recall: numpy's brute force and torch-fidelity, with equals and ties",
          "[conformance][metrics]") {
  const auto reference = squares(7010, 400, 24, 0, 1), samples = squares(7011, 300, 24, 0.1, 1.1);
  auto repeated = samples.clone();
  repeated.slice(0, 0, 20).copy_(reference.slice(0, 0, 20));
  repeated.slice(0, 20, 26).copy_(repeated[20].clone().expand({6, 24}));
  const auto coarse = [](const at::Tensor& x) { return x.slice(1, 0, 6).mul(4).round().div(4); };
  const std::array sides{std::pair{reference, samples}, std::pair{reference, repeated},
                         std::pair{reference, repeated},
                         std::pair{coarse(reference), coarse(samples)}};
  const auto expected = golden_json("metrics.json").at("precision_recall");
  REQUIRE(expected.size() == sides.size());
  for (std::size_t i = 0; i < sides.size(); ++i) {
    INFO(i);
    const std::int64_t k = expected[i].at("k");
    const auto& numpy = expected[i].at("numpy");
    const auto& peer = expected[i].at("torch-fidelity");  // float32 means
    for (const std::int64_t block : {64, 2048}) {
      const auto a = dkdm::metrics::manifold(sides[i].first, k, block);
      const auto b = dkdm::metrics::manifold(sides[i].second, k, block);
      CHECK(a.radii.sum().item<double>() ==
            Approx(numpy.at("reference_radii_sum").get<double>()).epsilon(1e-12));
      CHECK(b.radii.sum().item<double>() ==
            Approx(numpy.at("sample_radii_sum").get<double>()).epsilon(1e-12));
      const auto result = precision_recall(a, b, block);
      CHECK(result.precision == Approx(numpy.at("precision").get<double>()).epsilon(1e-14));
      CHECK(result.recall == Approx(numpy.at("recall").get<double>()).epsilon(1e-14));
      CHECK(result.precision == Approx(peer.at("precision").get<double>()).epsilon(1e-7));
      CHECK(result.recall == Approx(peer.at("recall").get<double>()).epsilon(1e-7));
    }
  }
}
