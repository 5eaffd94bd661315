// The students against the authors' networks: names, counts, outputs and gradients of
// golden/networks.json (make_networks.py: source commit and PyTorch version are in the file).
#include <ATen/ATen.h>

#include <catch2/catch.hpp>

#include <fstream>
#include <nlohmann/json.hpp>

#include "dkdm/io.hpp"
#include "fixtures/students.hpp"

using namespace dkdm;
using Json = nlohmann::json;

namespace {

const Json& reference() {
  static const Json json = Json::parse(
      std::ifstream(std::filesystem::path(DKDM_SOURCE_DIR) / "tests/golden/networks.json"));
  return json;
}

// A network by its name in the golden file.
std::shared_ptr<Denoiser> reference_network(const std::string& name) {
  if (name == "DiT-S/2") return fixtures::student("dit", {{"preset", "DiT-S"}}, {3, 32});
  if (name == "DiT of depth 2") {
    return fixtures::student(
        "dit",
        {{"depth", std::int64_t{2}},
         {"hidden_size", std::int64_t{64}},
         {"num_heads", std::int64_t{4}}},
        {3, 16});
  }
  const std::int64_t size = name == "57M-CNN-CelebA" || name == "295M-CNN" ? 64 : 32;
  return fixtures::student("adm-unet", {{"preset", name}}, {3, size});
}

at::Tensor output(Denoiser& network, std::int64_t size) {
  const at::Tensor x = golden::u_fill(5000, {2, 3, size, size}, 1.7);
  return network.forward(x.contiguous(at::MemoryFormat::ChannelsLast),
                         at::tensor({7, 993}, at::kLong));
}

std::int64_t dit_parameters(std::int64_t depth, std::int64_t width, std::int64_t heads,
                            std::int64_t patch) {
  return run::count_parameters(*fixtures::student(
      "dit",
      {{"depth", depth}, {"hidden_size", width}, {"num_heads", heads}, {"patch_size", patch}},
      {3, 32}));
}

}  // namespace

TEST_CASE("networks: parameter names, order, shapes and counts are the reference's",
          "[conformance][students]") {
  for (const auto& [name, expected] : reference().at("layout").items()) {
    INFO(name);
    const auto network = reference_network(name);
    std::string layout;
    for (const auto& entry : network->named_parameters()) {
      layout += entry.key();
      for (const auto length : entry.value().sizes()) layout += ' ' + std::to_string(length);
      layout += '\n';
    }
    CHECK(run::count_parameters(*network) == expected.at("parameters").get<std::int64_t>());
    CHECK(network->named_parameters().size() == expected.at("tensors").get<std::size_t>());
    CHECK(network->named_buffers().is_empty());
    CHECK(io::sha256(layout) == expected.at("sha256").get<std::string>());
  }
}

TEST_CASE("networks: DiT sizes count as the reference's", "[conformance][students]") {
  // DiT(depth, width, heads, patch) of the authors' dit.py at 32 pixels and 3 channels, learned
  // variance, no classes, instantiated in PyTorch.
  CHECK(dit_parameters(12, 384, 6, 4) == 32542176);
  CHECK(dit_parameters(12, 384, 6, 8) == 32689920);
  CHECK(run::count_parameters(*fixtures::student("dit", {{"preset", "DiT-B"}}, {3, 32})) ==
        129734424);
  // L and XL are 1.8 and 2.7 GB; their blocks are alike, so two depths give the line.
  const auto at_depth = [](std::int64_t depth, std::int64_t width, std::int64_t patch) {
    const std::int64_t one = dit_parameters(1, width, 16, patch);
    return one + (depth - 1) * (dit_parameters(2, width, 16, patch) - one);
  };
  CHECK(at_depth(24, 1024, 2) == 457065496);
  CHECK(at_depth(24, 1024, 4) == 456979552);
  CHECK(at_depth(28, 1152, 2) == 673962648);
  CHECK(at_depth(28, 1152, 8) == 674308608);
}

TEST_CASE("networks: the presets DiT-L and DiT-XL have their published size",
          "[.large][conformance][students]") {
  CHECK(run::count_parameters(*fixtures::student("dit", {{"preset", "DiT-L"}}, {3, 32})) ==
        457065496);
  CHECK(run::count_parameters(*fixtures::student("dit", {{"preset", "DiT-XL"}}, {3, 32})) ==
        673962648);
}

TEST_CASE("networks: outputs agree with the reference's", "[conformance][students]") {
  const c10::InferenceMode inference;
  for (const auto& [name, expected] : reference().at("output").items()) {
    INFO(name);
    const auto network = reference_network(name);
    const std::int64_t size = name == "57M-CNN-CelebA" ? 64 : 32;
    fixtures::fill_parameters(*network);
    network->eval();
    const at::Tensor out = output(*network, size);
    CHECK(out.sizes() == at::IntArrayRef({2, 6, size, size}));
    CHECK(out.is_contiguous(at::MemoryFormat::ChannelsLast));
    // f32 through some sixty layers with sums in another order: 1e-4 of the outputs' spread.
    const double spread = expected.at("std");
    const auto close = [&](double value) {
      return Approx(value).epsilon(1e-5).margin(1e-4 * spread);
    };
    CHECK(out.mean().item<double>() == close(expected.at("mean")));
    CHECK(out.std(/*unbiased=*/false).item<double>() == close(spread));
    const double sum_abs = expected.at("sum_abs");
    CHECK(out.abs().sum().item<double>() == Approx(sum_abs).epsilon(1e-5));
    for (std::int64_t i = 0; i < 4; ++i) {
      CHECK(out[0][0][0][i].item<double>() == close(expected.at("first").at(i)));
    }
    CHECK(out[1][5][size / 2][size - 1].item<double>() == close(expected.at("last")));
  }
}

TEST_CASE("networks: every parameter's gradient agrees with the reference's",
          "[conformance][students]") {
  for (const auto& [name, expected] : reference().at("gradient_norm").items()) {
    INFO(name);
    const auto network = reference_network(name);
    fixtures::fill_parameters(*network);
    network->eval();
    const at::Tensor out = output(*network, name == "14M-CNN" ? 32 : 16);
    (out * golden::u_fill(6000, out.sizes())).sum().backward();
    std::size_t i = 0;
    for (const auto& entry : network->named_parameters()) {
      if (!entry.value().requires_grad()) continue;
      REQUIRE(i < expected.size());
      INFO(entry.key());
      REQUIRE(entry.key() == expected[i][0].get<std::string>());
      REQUIRE(entry.value().grad().defined());
      // As above; a bias that normalisation nearly removes has a gradient of rounding alone.
      CHECK(entry.value().grad().norm().item<double>() ==
            Approx(expected[i][1].get<double>()).epsilon(5e-4).margin(1e-3));
      ++i;
    }
    CHECK(i == expected.size());
  }
}
