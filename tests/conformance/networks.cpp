// The students against the authors' networks: names, counts, outputs and gradients of
// golden/networks.json (make_networks.py: source commit and PyTorch version are in the file).
#include <ATen/ATen.h>

#include <catch2/catch.hpp>

#include "dkdm/files.hpp"
#include "fixtures/students.hpp"
#include "golden/packed.hpp"

using namespace dkdm;
using Json = nlohmann::json;

namespace {

const Json& reference() {
  static const Json json = golden::read_json("networks.json");
  return json;
}

// A network by its name in the golden file.
std::shared_ptr<Denoiser> reference_network(const std::string& name) {
  if (name == "DiT-S/2") return fixtures::student("dit", {{"preset", "DiT-S"}}, {3, 32, 32});
  if (name == "DiT of depth 2") {
    return fixtures::student("dit",
                             {{"depth", std::int64_t{2}},
                              {"hidden_size", std::int64_t{64}},
                              {"num_heads", std::int64_t{4}}},
                             {3, 16, 16});
  }
  const std::int64_t size = name == "57M-CNN-CelebA" || name == "295M-CNN" ? 64 : 32;
  return fixtures::student("adm-unet", {{"preset", name}}, {3, size, size});
}

at::Tensor output(Denoiser& network, std::int64_t size, std::int64_t images = 2) {
  const at::Tensor x = golden::u_fill(5000, {images, 3, size, size}, 1.7);
  return network.forward(x.contiguous(at::MemoryFormat::ChannelsLast),
                         at::tensor({7, 993}, at::kLong).narrow(0, 2 - images, images));
}

// What float32 may be off the reference in float64. The golden file has how far the reference's own
// float32 is, at worst over the code paths of processors; ours sums in another order, which may
// round as much again: three times it is seen on no path, and six is allowed.
double allowed_rounding(const std::string& what) {
  return 6 * reference().at("rounding").at(what).get<double>();
}

std::int64_t dit_parameters(std::int64_t depth, std::int64_t width, std::int64_t heads,
                            std::int64_t patch) {
  return model::count_parameters(*fixtures::student(
      "dit",
      {{"depth", depth}, {"hidden_size", width}, {"num_heads", heads}, {"patch_size", patch}},
      {3, 32, 32}));
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
    CHECK(model::count_parameters(*network) == expected.at("parameters").get<std::int64_t>());
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
  CHECK(model::count_parameters(*fixtures::student("dit", {{"preset", "DiT-B"}}, {3, 32, 32})) ==
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
  CHECK(model::count_parameters(*fixtures::student("dit", {{"preset", "DiT-L"}}, {3, 32, 32})) ==
        457065496);
  CHECK(model::count_parameters(*fixtures::student("dit", {{"preset", "DiT-XL"}}, {3, 32, 32})) ==
        673962648);
}

TEST_CASE("networks: outputs agree with the reference's", "[conformance][students]") {
  const c10::InferenceMode inference;
  REQUIRE(reference().at("output").size() == 8);  // seven CNNs and a DiT
  for (const auto& [name, expected] : reference().at("output").items()) {
    const auto network = reference_network(name);
    const std::int64_t size = expected.at("size"), images = expected.at("images");
    fixtures::fill_parameters(*network);
    network->eval();
    const at::Tensor out = output(*network, size, images);
    CHECK(out.sizes() == at::IntArrayRef({images, 6, size, size}));
    CHECK(out.is_contiguous(at::MemoryFormat::ChannelsLast));
    // Relative to the norm of what is compared.
    const at::Tensor elements = golden::unpacked(expected.at("elements"));
    const at::Tensor own =
        out.contiguous().flatten().slice(0, 0, c10::nullopt, out.numel() / 512).narrow(0, 0, 512);
    const double error = golden::row_error(own.unsqueeze(0), elements.unsqueeze(0));
    const double allowed = allowed_rounding("output " + name);
    INFO(name << ": relative error " << error << " of " << allowed);
    CHECK(error < allowed);
    CHECK(out.to(at::kDouble).norm().item<double>() ==
          Approx(expected.at("norm").get<double>()).epsilon(allowed));
  }
}

namespace {

struct Gradient {
  std::string name;
  std::int64_t index;  // of the parameter
  at::Tensor value;    // f64
};

// Of sum(out u(6000)) with respect to every trained parameter, computed in `dtype`.
std::vector<Gradient> gradients(const std::string& name, at::ScalarType dtype) {
  const auto network = reference_network(name);
  fixtures::fill_parameters(*network);
  fixtures::near_start(*network);
  network->eval();
  network->to(dtype);
  const std::int64_t size = name == "14M-CNN" ? 32 : 16;
  const at::Tensor x = golden::u_fill(5000, {2, 3, size, size}, 1.7).to(dtype);
  const at::Tensor out = network->forward(x.contiguous(at::MemoryFormat::ChannelsLast),
                                          at::tensor({7, 993}, at::kLong));
  (out * golden::u_fill(6000, out.sizes()).to(dtype)).sum().backward();
  std::vector<Gradient> found;
  std::int64_t index = -1;
  for (const auto& entry : network->named_parameters()) {
    ++index;
    if (!entry.value().requires_grad()) continue;
    INFO(name << ": " << entry.key());
    REQUIRE(entry.value().grad().defined());
    found.push_back({entry.key(), index, entry.value().grad().to(at::kDouble)});
  }
  return found;
}

// Relative error of a gradient by what the golden file holds of the reference's, in float64: norm
// and products with two fills. A product is off by |error| / sqrt(3) on average.
double distance(const Gradient& own, const Json& wanted) {
  const double norm = wanted[1];
  double squares = 0;
  for (const int which : {0, 1}) {
    const at::Tensor u = golden::u_fill(7000 + 2000 * which + own.index, own.value.sizes());
    squares += std::pow((own.value * u).sum().item<double>() - wanted[2 + which].get<double>(), 2);
  }
  return std::max(std::sqrt(1.5 * squares) / norm,
                  std::abs(own.value.norm().item<double>() / norm - 1));
}

}  // namespace

TEST_CASE("networks: every parameter's gradient agrees with the reference's",
          "[conformance][students]") {
  for (const auto& [name, expected] : reference().at("gradient").items()) {
    // In float64 the two are one function, so our float32 is as far from the reference as from our
    // own float64, where all of a gradient is at hand.
    const auto exact = gradients(name, at::kDouble), rounded = gradients(name, at::kFloat);
    REQUIRE(exact.size() == expected.size());
    double worst_exact = 0, worst_rounded = 0;
    for (std::size_t i = 0; i < exact.size(); ++i) {
      INFO(name << ": " << exact[i].name);
      REQUIRE(exact[i].name == expected[i][0].get<std::string>());
      worst_exact = std::max(worst_exact, distance(exact[i], expected[i]));
      const double error =
          ((rounded[i].value - exact[i].value).norm() / exact[i].value.norm()).item<double>();
      worst_rounded = std::max(worst_rounded, error);
    }
    INFO(name << ": relative error " << worst_exact << " in float64, " << worst_rounded
              << " in float32");
    CHECK(worst_exact < 2e-7);  // three roundings of float32, of which inputs are
    CHECK(worst_rounded < allowed_rounding("gradient " + name));
  }
}
