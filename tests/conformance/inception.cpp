// FID's Inception-v3 and the resizing rules against pytorch-fid, torch-fidelity and Pillow:
// golden/inception.json (make_inception.py: versions are in the file).
#include <ATen/ATen.h>

#include <catch2/catch.hpp>

#include "dkdm/files.hpp"
#include "fixtures/golden_file.hpp"
#include "fixtures/inception.hpp"
#include "metrics/preprocess.hpp"

using namespace dkdm;
using fixtures::Json;
using metrics::Preprocessing;

namespace {

const Json& expectations() {
  static const Json json = fixtures::golden_json("inception.json");
  return json;
}

const std::map<std::string, Preprocessing> kRules{{"adm", Preprocessing::adm},
                                                  {"pytorch-fid", Preprocessing::pytorch_fid},
                                                  {"torch-fidelity", Preprocessing::torch_fidelity},
                                                  {"clean", Preprocessing::clean}};

const metrics::Inception& network() {
  static const metrics::Inception net(fixtures::inception_state());
  return net;
}

at::Tensor golden_images() {
  return fixtures::inception_images(expectations().at("images").get<std::vector<std::int64_t>>());
}

// f32 of the references through 17 levels, with our sums in another order and folded norms.
constexpr double kRelative = 1e-5;

}  // namespace

TEST_CASE("preprocess: every rule is that of its evaluator", "[conformance][metrics]") {
  for (const auto& resized : expectations().at("resized")) {
    const auto shape = resized.at("shape").get<std::vector<std::int64_t>>();
    for (const auto& [name, rule] : kRules) {
      INFO(name << " " << resized.at("shape").dump());
      const auto out = metrics::preprocess(fixtures::inception_images(shape), rule);
      const auto& expected = resized.at(name);
      const auto values = expected.at("values").get<std::vector<double>>();
      const auto stride = expected.at("stride").get<std::int64_t>();
      const auto picked = out.contiguous().flatten().slice(0, 0, c10::nullopt, stride);
      REQUIRE(picked.numel() == static_cast<std::int64_t>(values.size()));
      CHECK((picked - at::tensor(values, at::kDouble)).abs().max().item<double>() < 1e-5);
      CHECK(out.to(at::kDouble).norm().item<double>() ==
            Approx(expected.at("norm").get<double>()).epsilon(1e-6));
    }
  }
}

TEST_CASE("inception: names, order and shapes are those of the published file",
          "[conformance][metrics]") {
  const auto lines = fixtures::layout(fixtures::inception_tensors());
  CHECK(io::sha256(lines) == expectations().at("layout").get<std::string>());
}

TEST_CASE("inception: features and logits are those of pytorch-fid and torch-fidelity",
          "[conformance][metrics]") {
  for (const auto& [name, expected] : expectations().at("features").items()) {
    INFO(name);
    const auto out = network()(metrics::preprocess(golden_images(), kRules.at(name)));
    CHECK(out.pooled.sizes() == at::IntArrayRef{3, 2048});
    CHECK(out.spatial.sizes() == at::IntArrayRef{3, 2023});
    CHECK(out.logits.sizes() == at::IntArrayRef{3, 1008});
    fixtures::check_numbers(out.pooled, expected.at("pooled"), kRelative);
    fixtures::check_numbers(out.spatial, expected.at("spatial"), kRelative);
    fixtures::check_numbers(out.logits, expected.at("logits"), kRelative);
    for (const auto& place : expected.at("spatial_at")) {
      const auto h = place[0].get<int>(), w = place[1].get<int>(), c = place[2].get<int>();
      INFO("row " << h << ", column " << w << ", channel " << c);
      CHECK(out.spatial[1][(h * 17 + w) * 7 + c].item<double>() ==
            Approx(place[3].get<double>()).epsilon(1e-4).margin(1e-6));
    }
  }
}

TEST_CASE("inception: an image's features do not depend on its batch", "[conformance][metrics]") {
  const auto images = metrics::preprocess(golden_images(), Preprocessing::adm);
  const auto alone = network()(images.slice(0, 2, 3));
  // More than the network takes at once, and the last of them alone again.
  const auto many = network()(images.repeat({3, 1, 1, 1}));
  const auto close = [](const at::Tensor& a, const at::Tensor& b) {
    return (a - b).norm().item<double>() <= 1e-6 * b.norm().item<double>();
  };
  for (const int n : {2, 8}) {
    CHECK(close(many.pooled[n], alone.pooled[0]));
    CHECK(close(many.spatial[n], alone.spatial[0]));
    CHECK(close(many.logits[n], alone.logits[0]));
  }
}
