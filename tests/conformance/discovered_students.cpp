// Every student module in the build, at its default parameters, keeps the promises of dkdm/denoiser.hpp.
// A new architecture is tested by being there.
#include <ATen/ATen.h>

#include <catch2/catch.hpp>

#include "fixtures/students.hpp"
#include "train/state_dict.hpp"

using namespace dkdm;

namespace {

constexpr ImageSpec kSpec{3, 32};

std::vector<std::string> students() {
  std::vector<std::string> names;
  for (const auto& plugin : fixtures::registry().plugins())
    if (plugin.kind == "student") names.push_back(plugin.name);
  return names;
}

std::map<std::string, at::Tensor> tensors(const Denoiser& network) {
  std::map<std::string, at::Tensor> all;
  for (const auto& entry : network.named_parameters()) all[entry.key()] = entry.value().detach();
  return all;
}

}  // namespace

TEST_CASE("discovered students: shape, gradient, determinism, save and load", "[conformance][students]") {
  REQUIRE(students().size() >= 2);
  const auto name = GENERATE(from_range(students()));
  INFO(name);
  const auto network = fixtures::student(name, {}, kSpec);
  // Zero-initialised layers would hide everything behind them.
  fixtures::fill_parameters(*network);
  network->eval();
  const at::Tensor x = golden::u_fill(5000, {2, 3, 32, 32}, 1.7), t = at::tensor({7, 993}, at::kLong);

  const at::Tensor out = network->forward(x, t);
  REQUIRE(out.dim() == 4);
  CHECK((out.size(1) == 3 || out.size(1) == 6));
  CHECK(out.size(2) == 32);
  CHECK(out.size(3) == 32);
  CHECK(out.scalar_type() == at::kFloat);
  CHECK(out.isfinite().all().item<bool>());
  CHECK(at::equal(out, network->forward(x, t)));
  CHECK(at::allclose(out.narrow(0, 1, 1), network->forward(x.narrow(0, 1, 1), t.narrow(0, 1, 1)), 1e-3,
                     1e-4));

  (out * golden::u_fill(6000, out.sizes())).sum().backward();
  for (const auto& entry : network->named_parameters()) {
    if (!entry.value().requires_grad()) continue;
    INFO(entry.key());
    REQUIRE(entry.value().grad().defined());
    CHECK(entry.value().grad().abs().max().item<double>() > 0);
  }

  const auto copy = fixtures::student(name, {}, kSpec, /*seed=*/1);
  train::copy_strictly(tensors(*network), tensors(*copy), name);
  copy->eval();
  CHECK(at::equal(out, copy->forward(x, t)));
}
