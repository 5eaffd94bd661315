// What stages take of a device's memory: activations counted on the meta device against the CPU's
// allocator, networks that no machine here holds, and what is said of a stage that does not fit.
#include "run/footprint.hpp"

#include <catch2/catch.hpp>

#include <cmath>
#include <numeric>

#include "dkdm/memory.hpp"
#include "dkdm/nn.hpp"
#include "fixtures/students.hpp"
#include "nn/memory_limit.hpp"
#include "nn/meta.hpp"
#include "record/environment.hpp"
#include "run/device_memory.hpp"
#include "sanitized.hpp"

using namespace dkdm;
using Catch::Matchers::Contains;
using device::Precision;
using run::Pass;

namespace {

using Given = std::map<std::string, Value>;
using Integers = std::vector<std::int64_t>;

plugin::PluginChoice choice(const std::string& name, const Given& given) {
  const plugin::PluginInfo& info = fixtures::registry().find("student", name);
  return {info.kind, info.name, info.version, Params(info.params, given, name)};
}

std::shared_ptr<Denoiser> on_meta(const plugin::PluginChoice& student,
                                  const StudentContext& context) {
  return nn::made_on_meta([&] { return fixtures::registry().student(student, context, 0); });
}

struct Network {
  const char* name;
  Given given;
  SampleShape shape;
};

// Three kinds at two sizes each, with dropout where a network has it.
std::vector<Network> networks() {
  const Value one = std::int64_t{1}, two = std::int64_t{2}, four = std::int64_t{4},
              six = std::int64_t{6}, wide = std::int64_t{384}, narrow = std::int64_t{192};
  return {{"adm-unet",
           {{"model_channels", std::int64_t{32}},
            {"channel_mult", Integers{1, 2}},
            {"num_res_blocks", one},
            {"attention_resolutions", Integers{16}}},
           {3, 32, 32}},
          {"adm-unet",
           {{"model_channels", std::int64_t{64}},
            {"channel_mult", Integers{1, 2, 2}},
            {"num_res_blocks", two},
            {"attention_resolutions", Integers{16}}},
           {3, 64, 64}},
          {"dit", {{"depth", two}, {"hidden_size", narrow}, {"num_heads", six}}, {3, 32, 32}},
          {"dit",
           {{"depth", four}, {"hidden_size", wide}, {"num_heads", six}, {"patch_size", two}},
           {3, 64, 64}},
          {"unet-lite",
           {{"model_channels", std::int64_t{32}}, {"channel_mult", Integers{1, 2}}},
           {3, 32, 32}},
          {"unet-lite",
           {{"model_channels", std::int64_t{64}}, {"channel_mult", Integers{1, 2, 2}}},
           {3, 64, 64}}};
}

constexpr std::int64_t kImages = 2;
constexpr double kEnough = 1e12;

run::Activations here(const Network& network, Pass pass, Precision precision = Precision::fp32) {
  const auto made = fixtures::student(network.name, network.given, network.shape);
  return run::activations_on_cpu(*made, network.shape, kImages, pass, precision, kEnough).value();
}

run::Activations there(const Network& network, Pass pass, Precision precision = Precision::fp32) {
  const auto made = on_meta(choice(network.name, network.given), {network.shape, {}});
  model::to_channels_last(*made);
  return run::activations_on_meta(*made, network.shape, kImages, pass, precision);
}

std::string title(const Network& network, Pass pass) {
  return std::string(network.name) + " of " + text_of(network.shape) +
         (pass == Pass::training ? ", training" : ", evaluation");
}

}  // namespace

TEST_CASE("footprint: the meta device counts the activations that the CPU's allocator does",
          "[unit][run]") {
  for (const auto& network : networks())
    for (const Pass pass : {Pass::evaluation, Pass::training}) {
      INFO(title(network, pass));
      const auto cpu = here(network, pass), meta = there(network, pass);
      INFO("cpu " << cpu.fixed << " + " << cpu.image << ", meta " << meta.fixed << " + "
                  << meta.image);
      for (const std::int64_t images : {kImages, 2 * kImages, 16 * kImages})
        CHECK(meta.of(images) == Approx(cpu.of(images)).epsilon(0.05));
    }
}

TEST_CASE("footprint: of 16-bit training the meta device counts what autocast makes on the CPU",
          "[unit][run]") {
  for (const auto& network : networks()) {
    INFO(title(network, Pass::training));
    const auto cpu = here(network, Pass::training, Precision::bf16),
               meta = there(network, Pass::training, Precision::bf16),
               full = there(network, Pass::training);
    INFO("cpu " << cpu.fixed << " + " << cpu.image << ", meta " << meta.fixed << " + "
                << meta.image);
    for (const std::int64_t images : {kImages, 16 * kImages})
      CHECK(meta.of(images) == Approx(cpu.of(images)).epsilon(0.05));
    // The factors of products alone are of 16 bits, and the rounded weights are there whatever the
    // batch.
    CHECK(meta.image < full.image);
    CHECK(meta.image > full.image / 2);
    CHECK(meta.fixed > full.fixed);
  }
}

TEST_CASE("footprint: a count on the meta device touches no memory, however large the network",
          "[unit][run]") {
  // 24 blocks of 18 x 1536^2 weights: 1.0e9 with the rest.
  const auto large = choice("dit", {{"depth", std::int64_t{24}},
                                    {"hidden_size", std::int64_t{1536}},
                                    {"num_heads", std::int64_t{16}},
                                    {"patch_size", std::int64_t{2}}});
  const StudentContext context{{4, 32, 32}, {}};
  const std::int64_t before = record::peak_resident_bytes();
  const nn::AnyMachine sizes_alone;
  const auto size = fixtures::registry().check_size(large, context, kTrainingCopies);
  CHECK(size.parameters == Approx(1.03e9).epsilon(0.03));
  const auto network = on_meta(large, context);
  const auto kept =
      run::activations_on_meta(*network, context.shape, 1, Pass::training, Precision::fp32);
  // A block keeps some 20 tensors of 256 tokens a block: between 10 and 40.
  const double tokens = 256.0 * 1536 * 4 * 24;
  CHECK(kept.image > 10 * tokens);
  CHECK(kept.image < 40 * tokens);
  if (!kSanitized) CHECK(record::peak_resident_bytes() - before < 500'000'000);
}

TEST_CASE("footprint: what this machine could not hold is counted in a plan for any machine alone",
          "[unit][run]") {
  // More than half of this machine's memory in one copy, in blocks of 18 x 4096^2 weights.
  const auto depth = static_cast<std::int64_t>(0.7 * double(machine_memory()) / 1.21e9) + 1;
  const auto large = choice("dit", {{"depth", std::min<std::int64_t>(depth, 256)},
                                    {"hidden_size", std::int64_t{4096}},
                                    {"num_heads", std::int64_t{32}},
                                    {"patch_size", std::int64_t{4}}});
  const StudentContext context{{3, 32, 32}, {}};
  const std::int64_t before = record::peak_resident_bytes();
  run::CostModel cost(fixtures::registry());
  const nn::AnyMachine sizes_alone;
  const auto bytes = run::bytes_of(large, context, cost, Pass::training, Precision::fp32);
  CHECK(bytes.weights > 0.5 * double(machine_memory()));
  CHECK(bytes.weights >= bytes.parameters);
  CHECK(bytes.activations.image > 1e6);
  if (!kSanitized) CHECK(record::peak_resident_bytes() - before < 500'000'000);
  // Limits are those of no machine, not none.
  CHECK_THROWS_WITH(
      fixtures::registry().check_size(choice("dit", {{"depth", std::int64_t{256}},
                                                     {"hidden_size", std::int64_t{16384}},
                                                     {"num_heads", std::int64_t{64}}}),
                                      context, 1000),
      Contains("any machine"));
}

TEST_CASE("footprint: a network is what it was after it was counted on the meta device",
          "[unit][run]") {
  const auto network = fixtures::student("unet-lite", {}, {3, 16, 16});
  network->train();
  const auto x = at::ones({2, 3, 16, 16});
  const auto t = at::zeros({2}, at::kLong);
  const auto before = network->forward(x, t).detach();
  {
    const nn::OnMeta there(*network);
    CHECK(network->parameters().front().is_meta());
    run::activations_on_meta(*network, {3, 16, 16}, 2, Pass::evaluation, Precision::fp32);
  }
  CHECK(network->is_training());
  const auto after = network->forward(x, t);
  CHECK(at::equal(before, after.detach()));
  after.sum().backward();
  CHECK(network->parameters().front().grad().defined());
}

TEST_CASE("footprint: random layers have shapes alone on the meta device", "[unit][run]") {
  struct Noisy final : Denoiser {
    Noisy() {
      weight = register_parameter("weight", at::ones({1}));
      noise = register_module("noise", std::make_shared<nn::RandomLayer>());
    }
    at::Tensor forward(const at::Tensor& x, const at::Tensor&) override {
      if (!noise->draws()) return x * weight;
      return (x * weight + noise->normal(x)) * noise->mask(x, 0.5) * weight;
    }
    at::Tensor weight;
    std::shared_ptr<nn::RandomLayer> noise;
  } network;
  const SampleShape shape{3, 32, 32};
  const auto cpu =
      run::activations_on_cpu(network, shape, 8, Pass::training, Precision::fp32, kEnough).value();
  const nn::OnMeta there(network);
  const auto meta = run::activations_on_meta(network, shape, 8, Pass::training, Precision::fp32);
  // What is multiplied by the weight, twice, the mask, and the output.
  constexpr double kTensor = 3 * 32 * 32 * 4;
  CHECK(meta.image == Approx(4 * kTensor));
  CHECK(meta.image == Approx(cpu.image));
  // The 200 operators that numbers are made of on a device would hold more at once.
  const auto allocated = nn::counted_on_meta([&] {
    const auto x = at::zeros({1, 3, 32, 32}, at::TensorOptions().device(at::kMeta));
    network.train();
    network.forward(x, x);
  });
  CHECK(allocated.most <= 7 * kTensor);
}

TEST_CASE("footprint: a stage's memory is the sum of its parts", "[unit][run]") {
  const run::NetworkBytes student{110, 100, {7, 2}}, teacher{1000, 1000, {0, 30}};
  const auto training = run::training_footprint(student, teacher, 500, {1, 2, 2}, 10, 0);
  const auto& parts = training.parts;
  CHECK(parts.weights == 110);
  CHECK(parts.gradients == 100);
  CHECK(parts.moments == 200);
  CHECK(parts.ema == 100);
  CHECK(parts.teacher == 1000);
  CHECK(parts.batch_set == 500);
  CHECK(parts.batch == 12 * 4 * 4 * 10);
  CHECK(parts.activations == 300);  // the teacher's, which are more than 7 + 20
  CHECK(training.memory() == 110 + 100 + 200 + 100 + 1000 + 500 + 1920 + 300);
  // What is recorded keeps what it needs.
  CHECK(run::training_footprint(student, teacher, 500, {1, 2, 2}, 10, 0, /*graphs=*/true)
            .parts.activations == 327);
  const auto drawing =
      run::sampling_footprint(student, {1, 2, 2}, {.count = 100, .batch = 10}, true);
  CHECK(drawing.parts.networks() == 110);
  CHECK(drawing.memory() == 110 + 6 * 4 * 4 * 10 + 27);
  CHECK(std::isnan(run::preparation_footprint(run::kUnknownBytes, 500, {1, 2, 2}, 10).memory()));
}

TEST_CASE("footprint: a stage that does not fit says by how much and what to lower",
          "[unit][run]") {
  stages::Stage stage;
  stage.label = "train dynamic";
  stage.footprint.parts = {.weights = 1e9, .batch_set = 2e9, .activations = 9.3e9};
  stage.footprint.remedy = "lower train.batch or method.rho, or train.precision = \"bf16\"";
  CHECK(run::shortfall(stage, {8e9, "cuda:0", "NVIDIA H200"}) ==
        "train dynamic needs 12.3 GB, cuda:0 has 8.00 GB (NVIDIA H200): lower train.batch or "
        "method.rho, or train.precision = \"bf16\"");
  CHECK(run::shortfall(stage, run::stated_memory(12)) ==
        "train dynamic needs 12.3 GB, the device has 12.0 GB (--device-memory): lower train.batch "
        "or method.rho, or train.precision = \"bf16\"");
  CHECK(run::shortfall(stage, run::stated_memory(12.4)).empty());
  CHECK(run::shortfall(stage, {0, "fake:0", ""}).empty());  // not known
  CHECK_THAT(run::shortfall(stage, {5e8, "this machine", ""}),
             Contains("this machine has 500 MB: its networks alone take 1.00 GB"));
  stage.footprint.parts.teacher = run::kUnknownCost;
  CHECK(run::shortfall(stage, {1, "cuda:0", ""}).empty());
  CHECK(run::memory_of(at::kCPU).bytes == double(machine_memory()));
}
