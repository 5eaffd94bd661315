// What a method of somebody else's can do with the shared classes: another loss, features of both
// networks, a network of its own that is trained, checkpointed and continued.
#include <catch2/catch.hpp>

#include <ATen/ATen.h>

#include <algorithm>
#include <atomic>
#include <fstream>

#include "config/experiment.hpp"
#include "conformance/check.hpp"
#include "dkdm/features.hpp"
#include "dkdm/io.hpp"
#include "fixtures/analytic.hpp"
#include "plugin/seeded_generator.hpp"
#include "run/run_host.hpp"
#include "train/trainer.hpp"

using namespace dkdm;
using Catch::Matchers::Contains;
using fixtures::ScratchFolder;
namespace fs = std::filesystem;

namespace {

constexpr ImageSpec kSpec{1, 8, 8};

const plugin::Registry& registry() {
  static const plugin::Registry all(
      {fs::path(DKDM_BUILD_DIR) / "tests/fixtures/plugins", fs::path(DKDM_BUILD_DIR) / "plugins"});
  return all;
}

plugin::PluginChoice choice(const std::string& kind, const std::string& name,
                            const std::map<std::string, Value>& given) {
  const plugin::PluginInfo& info = registry().find(kind, name);
  return {info.kind, info.name, info.version, Params(info.params, given, name)};
}

// An ADM UNet on one level.
std::shared_ptr<Denoiser> unet(std::int64_t width, std::uint64_t seed) {
  return registry().student(choice("student", "adm-unet",
                                   {{"model_channels", width},
                                    {"channel_mult", std::vector<std::int64_t>{1}},
                                    {"num_res_blocks", std::int64_t{1}},
                                    {"attention_resolutions", std::vector<std::int64_t>{}},
                                    {"num_head_channels", std::int64_t{32}}}),
                            {kSpec, {"cosine", 20, ""}}, seed);
}

Params settings(std::int64_t steps) {
  return Params(config::train_table(),
                {{"steps", steps}, {"batch", std::int64_t{4}}, {"lr", 0.01}, {"ema", 0.9}},
                "train");
}

// Stops a training before step `stop_at`, as Ctrl-C does.
class StoppingHost final : public Host {
 public:
  std::int64_t stop_at = -1;
  void log(const std::string&, const std::string&) override {}
  void progress(const std::string& unit, std::int64_t done, std::int64_t) override {
    if (unit == "steps" && done == stop_at) throw Interrupted();
  }
  TrainedModel load_model(const fs::path&, const std::string&) override { return {}; }
  std::shared_ptr<Denoiser> student(const std::string&, const std::map<std::string, Value>&,
                                    const StudentContext&) override {
    return nullptr;
  }
};

// A run of the feature method: teacher, student and what they share.
struct FeatureRun {
  StoppingHost host;
  TrainedModel teacher{unet(64, 1), {"cosine", 20, ""}, kSpec};
  std::shared_ptr<Denoiser> student = unet(32, 2);
  MethodContext context{host, {"cosine", 20, ""}, kSpec, 4, 7};
  std::shared_ptr<Method> method;

  explicit FeatureRun(const std::map<std::string, Value>& given = {}) {
    teacher.network->eval();
    context.teacher = &teacher;
    context.student = student.get();
    method = registry().method(choice("method", "fixture-features", given), host);
    const plugin::SeededGenerator seeded(5);
    method->start(context, "");
  }
  // Up to step `stop_at` (-1 = all), continued from what `folder` holds.
  train::TrainResult train(const fs::path& folder, std::int64_t stop_at = -1) {
    host.stop_at = stop_at;
    return train::train(*student, *method, host, settings(6), 3, folder,
                        [](const std::vector<record::CurvePoint>&) {});
  }
};

void check_equal(const fs::path& a, const fs::path& b) {
  const auto one = io::load_tensors(a), other = io::load_tensors(b);
  REQUIRE(one.size() == other.size());
  for (const auto& [name, tensor] : one) {
    INFO(name);
    CHECK(at::equal(tensor, other.at(name)));
  }
}

std::int64_t lines_of(const fs::path& file) {
  std::ifstream stream(file);
  REQUIRE(stream);
  return std::count(std::istreambuf_iterator<char>(stream), {}, '\n');
}

}  // namespace

TEST_CASE("custom methods: another loss takes 25 lines and keeps every promise",
          "[unit][methods]") {
  const fs::path sources = fs::path(DKDM_SOURCE_DIR) / "tests/fixtures/plugins";
  CHECK(lines_of(sources / "l1_distillation.cpp") <= 25);
  CHECK(lines_of(sources / "l1_images.cpp") <= 25);

  const auto name =
      GENERATE(as<std::string>{}, "fixture-l1", "fixture-l1-images", "fixture-features");
  const plugin::PluginInfo& info = registry().find("method", name);
  const std::atomic<bool> stop{false};
  run::RunHost host(registry(), stop, nullptr);
  int made = 0;
  conformance::Checklist list(
      [](const std::string&) {},
      [&](const conformance::Finding& finding) {
        ++made;
        INFO(finding.check << ": " << finding.text);
        CHECK(finding.outcome != conformance::Outcome::failed);
        if (finding.check == "trained part")
          CHECK((finding.outcome == conformance::Outcome::passed) == (name == "fixture-features"));
      });
  conformance::check_description(info, list);
  conformance::check_behaviour({registry(), info, Params(info.params, {}), host}, list);
  CHECK(made == 12);
}

TEST_CASE("custom methods: the loss of a distillation is the subclass's", "[unit][methods]") {
  fixtures::Bench bench(10, 8);
  const auto method = registry().method(choice("method", "fixture-l1", {}), bench.host);
  method->start(bench.context, "");
  const TrainBatch batch = method->next(0);
  const at::Tensor output = at::cat({0.5 * batch.x_t, -0.2 * batch.x_t}, 1);
  // ClosedForm's eps is 0.6 x_t + 0.001 t, the output's 0.5 x_t.
  const at::Tensor difference =
      0.1 * batch.x_t + 0.001 * batch.t.to(at::kFloat).view({-1, 1, 1, 1});
  const LossTerms terms = method->loss(batch, output);
  CHECK(at::allclose(terms.loss - terms.vb, difference.abs().mean({1, 2, 3}), 1e-4, 1e-6));
}

TEST_CASE("features: networks offer activations by name, and an unknown name says which there are",
          "[unit][methods]") {
  const auto network = unet(32, 1);
  const TensorMap all = example_features(*network, kSpec);
  REQUIRE(all.size() == 5);  // stem and one block down, the middle, two blocks up
  for (const char* name : {"down.0", "down.1", "middle", "up.0", "up.1"}) {
    INFO(name);
    REQUIRE(all.contains(name));
    CHECK(all.at(name).sizes() == at::IntArrayRef({1, 32, 8, 8}));
  }
  CHECK_THROWS_WITH(example_features(*network, kSpec, {"midle"}),
                    Contains("no feature \"midle\", did you mean \"middle\"?") &&
                        Contains("down.0, down.1, middle, up.0, up.1"));
  // Nobody listens after that: the next forward offers to none.
  Features middle(*network, {"middle"});
  network->forward(at::ones({2, 1, 8, 8}), at::zeros({2}, at::kLong));
  const TensorMap heard = middle.take();
  CHECK(heard.size() == 1);
  CHECK(heard.at("middle").requires_grad());
  CHECK_THROWS_WITH(middle.take(), Contains("middle"));  // taken once
}

TEST_CASE("custom methods: a trained part learns with the student and is kept beside it",
          "[unit][methods]") {
  const bool average = GENERATE(false, true);
  FeatureRun run({{"average", average}});
  const auto part = run.method->trained_part().network;
  const at::Tensor before = part->parameters()[0].detach().clone();
  const ScratchFolder folder;
  run.train(folder.path);
  CHECK_FALSE(at::equal(before, part->parameters()[0]));
  const auto kept = io::load_tensors(folder.path / "method.safetensors");
  CHECK(at::equal(kept.at("weight"), part->parameters()[0]));
  CHECK(kept.contains("ema/weight") == average);
  CHECK(kept.size() == (average ? 4 : 2));
  for (const char* file : {"raw.safetensors", "ema.safetensors"})
    CHECK(io::load_tensors(folder.path / file).size() == run.student->parameters().size());
}

TEST_CASE("custom methods: a run with a trained part continues to the same bits",
          "[unit][methods]") {
  const bool average = GENERATE(false, true);
  const std::map<std::string, Value> given{{"average", average}};
  const ScratchFolder whole, stopped;
  CHECK(FeatureRun(given).train(whole.path).examples == 6 * 4);
  FeatureRun first(given);
  CHECK_THROWS_AS(first.train(stopped.path, 3), Interrupted);
  REQUIRE(fs::exists(stopped.path / "checkpoint.safetensors"));
  CHECK(FeatureRun(given).train(stopped.path).examples == 6 * 4);
  for (const char* file : {"raw.safetensors", "ema.safetensors", "method.safetensors"})
    check_equal(whole.path / file, stopped.path / file);
}

TEST_CASE("custom methods: a student that draws in training continues to the same bits",
          "[unit][methods]") {
  const ScratchFolder whole, stopped, other;
  const auto train = [&](const fs::path& folder, std::uint64_t seed, std::int64_t stop_at) {
    fixtures::Bench bench(10, 4);
    StoppingHost host;
    host.stop_at = stop_at;
    const auto method = registry().method(choice("method", "fixture-l1", {}), bench.host);
    method->start(bench.context, "");
    const auto student = registry().student(choice("student", "fixture-noisy", {}),
                                            {{1, 4, 4}, {"cosine", 10, ""}}, 1);
    train::train(*student, *method, host, settings(6), seed, folder,
                 [](const std::vector<record::CurvePoint>&) {});
  };
  train(whole.path, 1, -1);
  CHECK_THROWS_AS(train(stopped.path, 1, 3), Interrupted);
  train(stopped.path, 1, -1);
  check_equal(whole.path / "raw.safetensors", stopped.path / "raw.safetensors");
  train(other.path, 2, -1);
  CHECK_FALSE(at::equal(io::load_tensors(whole.path / "raw.safetensors").at("conv.weight"),
                        io::load_tensors(other.path / "raw.safetensors").at("conv.weight")));
}
