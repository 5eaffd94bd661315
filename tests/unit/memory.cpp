// Networks counted before they are there, and experiments that no machine could hold.
#include <catch2/catch.hpp>

#include <ATen/ATen.h>
#include <torch/nn/modules/linear.h>

#include "dkdm/memory.hpp"
#include "fixtures/students.hpp"
#include "model/model_folder.hpp"
#include "record/environment.hpp"
#include "run/cost.hpp"
#include "sanitized.hpp"

using namespace dkdm;
using Catch::Matchers::Contains;

namespace {

plugin::PluginChoice choice(const std::string& name, const std::map<std::string, Value>& given) {
  const plugin::PluginInfo& info = fixtures::registry().find("student", name);
  return {info.kind, info.name, info.version, Params(info.params, given, name)};
}

// A linear layer of width x width.
std::shared_ptr<torch::nn::Module> layer(std::int64_t width) {
  return torch::nn::Linear(width, width).ptr();
}

}  // namespace

TEST_CASE("memory: a network is counted as it is made, for every shipped student", "[unit][nn]") {
  const auto name =
      GENERATE(as<std::string>{}, "adm-unet", "dit", "edm-unet", "mlp-mixer", "unet-lite", "uvit");
  const StudentContext context{{3, 32, 32}, {}};
  const auto counted = fixtures::registry().check_size(choice(name, {}), context);
  const auto network = fixtures::registry().student(choice(name, {}), context, 0);
  CHECK(counted.parameters == model::count_parameters(*network));
  CHECK(counted.bytes >= 4 * counted.parameters);
}

TEST_CASE("memory: counting touches none, and leaves the next network's weights as they were",
          "[unit][nn]") {
  const auto width = static_cast<std::int64_t>(std::sqrt(double(machine_memory()) / 16));
  const std::int64_t before = record::peak_resident_bytes();
  const NetworkSize size = measured_network([&] { return layer(width); }, 1, "a layer");
  CHECK(size.parameters == width * width + width);
  CHECK(size.bytes > machine_memory() / 5);  // a quarter, to rounding
  if (!kSanitized) CHECK(record::peak_resident_bytes() - before < machine_memory() / 50);

  at::manual_seed(1);
  const at::Tensor weight = layer(300)->parameters()[0];
  CHECK(weight.abs().max().item<double>() > 0);
  CHECK(weight.isfinite().all().item<bool>());
}

TEST_CASE("memory: what does not fit is refused by its size, with the copies that training keeps",
          "[unit][nn]") {
  const auto width = static_cast<std::int64_t>(std::sqrt(double(machine_memory()) / 16));
  CHECK_THROWS_WITH(measured_network([&] { return layer(width); }, kTrainingCopies, "here"),
                    Contains("here: a network of more than") && Contains("5 copies") &&
                        Contains("fewer or narrower layers"));
  CHECK_THROWS_AS(measured_network([&] { return layer(1 << 20); }, 1, "here"), ConfigError);
  // Every parameter in its range, and petabytes together.
  const std::int64_t before = record::peak_resident_bytes();
  CHECK_THROWS_WITH(
      fixtures::registry().student(
          choice("adm-unet", {{"model_channels", std::int64_t{4096}},
                              {"channel_mult", std::vector<std::int64_t>{64, 64}},
                              {"num_res_blocks", std::int64_t{64}},
                              {"attention_resolutions", std::vector<std::int64_t>{}}}),
          {{3, 32, 32}, {}}, 0),
      Contains("adm-unet") && Contains("does not fit"));
  CHECK(record::peak_resident_bytes() - before < machine_memory() / 50);
}

TEST_CASE("memory: a forward is timed under the limit, raw memory of its kernels included",
          "[unit][nn]") {
  const auto name = GENERATE(as<std::string>{}, "adm-unet", "dit", "unet-lite");
  run::CostModel cost(fixtures::registry());
  CHECK(cost.forward_s(choice(name, {}), {{1, 16, 16}, {}}) > 0);
}

TEST_CASE("memory: what a constructor refuses is its own message", "[unit][nn]") {
  CHECK_THROWS_WITH(fixtures::registry().student(choice("dit", {{"patch_size", std::int64_t{5}}}),
                                                 {{3, 32, 32}, {}}, 0),
                    Contains("patch_size is 5"));
}
