// Numbers that parse and make no sense: alone in their sections, and together.
#include <catch2/catch.hpp>

#include <atomic>
#include <fstream>

#include "config/settings.hpp"
#include "fixtures/analytic.hpp"
#include "run/cost.hpp"
#include "run/limits.hpp"
#include "run/run_host.hpp"

using namespace dkdm;
using Catch::Matchers::Contains;
namespace fs = std::filesystem;

namespace {

const plugin::Registry& registry() { return fixtures::shipped_plugins(); }

const std::string kText = R"([experiment]
name = "limits"
[dataset]
plugin = "fashion-mnist"
[teacher]
plugin = "checkpoint"
method = { plugin = "data-based" }
[teacher.student]
plugin = "adm-unet"
model_channels = 32
channel_mult = [1, 1]
num_res_blocks = 1
attention_resolutions = [8]
num_head_channels = 16
[student]
plugin = "dit"
depth = 2
hidden_size = 48
num_heads = 3
patch_size = 4
[train]
steps = 30
[sample]
count = 96
respacing = "10"
[evaluator]
plugin = "classifier"
[[row]]
id = "dynamic"
method = { plugin = "dynamic" }
[[row]]
id = "free"
method = { plugin = "data-free" }
)";

struct Experiments {
  fixtures::ScratchFolder folder;
  fs::path file = folder.path / "limits.toml";

  config::Experiment load(const std::vector<std::string>& overrides,
                          const std::string& text = kText) {
    std::ofstream(file) << text;
    return config::load_experiment({file, overrides, {}}, registry());
  }
  // What loading refuses, or "".
  std::string loading(const std::vector<std::string>& overrides, const std::string& text = kText) {
    try {
      load(overrides, text);
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "";
  }
  // What planning with images of `spec` refuses, or "".
  std::string planning(const std::vector<std::string>& overrides,
                       const ImageSpec& spec = {1, 16, 16}, std::size_t seeds = 1) {
    const std::atomic<bool> stop{false};
    run::RunHost host(registry(), stop, nullptr);
    const stages::StageContext bench{
        registry(), host,
        [&](const auto&) { return std::make_shared<fixtures::NumberedImages>(60000, 0, spec); }};
    run::CostModel cost(registry());
    run::Sources sources(bench);
    try {
      run::check_limits(load(overrides), bench, sources, cost, seeds, folder.path);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
};

bool is_number(const Value& value) {
  return std::holds_alternative<std::int64_t>(value) || std::holds_alternative<double>(value);
}

bool is_numeric(const Value& value) {
  return is_number(value) || std::holds_alternative<std::vector<std::int64_t>>(value) ||
         std::holds_alternative<std::vector<double>>(value);
}

}  // namespace

TEST_CASE("limits: every number of every section and shipped plugin declares both bounds",
          "[unit][config]") {
  std::vector<std::pair<std::string, ParamTable>> tables{
      {"[experiment]", config::experiment_table()},
      {"[train]", config::train_table()},
      {"[sample]", config::sample_table()},
      {"[evaluate]", config::evaluate_table()},
      {"[synthetic]", config::synthetic_table()},
      {"[reference]", config::reference_table()},
      {"[diffusion]", config::diffusion_settings().table()}};
  for (const plugin::PluginInfo& info : registry().plugins())
    tables.emplace_back(info.name, info.params);
  REQUIRE(tables.size() > 20);
  for (const auto& [title, table] : tables)
    for (const Param& param : table) {
      if (!is_numeric(param.default_value)) continue;
      INFO(title << " " << param.name);
      CHECK(param.min.has_value());
      CHECK(param.max.has_value());
    }
}

TEST_CASE("limits: a number outside its range is one line with file, line, key, value and range",
          "[unit][config]") {
  Experiments experiments;
  std::string text = kText;
  const std::string small = "num_res_blocks = 1\n";
  text.replace(text.find(small), small.size(), "num_res_blocks = 100000\n");
  CHECK(experiments.loading({}, text) ==
        experiments.file.string() + ":12:18: num_res_blocks: expected range 1…64, got 100000");

  const std::vector<std::pair<std::string, const ParamTable*>> sections{
      {"train", &config::train_table()},
      {"sample", &config::sample_table()},
      {"evaluate", &config::evaluate_table()},
      {"synthetic", &config::synthetic_table()},
      {"diffusion", &config::diffusion_settings().table()},
      {"experiment", &config::experiment_table()}};
  for (const auto& [section, table] : sections)
    for (const Param& param : *table) {
      if (!is_number(param.default_value)) continue;
      for (const char* value : {"9223372036854775807", "-9223372036854775807"}) {
        const std::string key = section + "." + param.name;
        INFO(key << " = " << value);
        const std::string refusal = experiments.loading({key + "=" + value});
        CHECK_THAT(refusal, Contains(param.name + ": expected range "));
        CHECK(refusal.find('\n') == std::string::npos);
      }
    }
}

TEST_CASE("limits: a network of numbers in range that fits no machine is refused by its size",
          "[unit][config]") {
  Experiments experiments;
  CHECK(experiments.planning({}) == "");
  const std::vector<std::string> wide{"student.hidden_size=16384", "student.num_heads=64",
                                      "student.depth=256"};
  const std::string refusal = experiments.planning(wide);
  CHECK_THAT(refusal,
             Contains("limits.toml: row \"dynamic\"") && Contains("dit") && Contains("of memory"));
  CHECK(refusal.find('\n') == std::string::npos);
  CHECK_THAT(experiments.planning({"teacher.student.model_channels=4096",
                                   "teacher.student.channel_mult=[64, 64]",
                                   "teacher.student.num_head_channels=64"}),
             Contains("limits.toml: [teacher]") && Contains("adm-unet") && Contains("of memory"));
}

TEST_CASE("limits: batches, batch sets and sample sets that no machine holds are refused",
          "[unit][config]") {
  Experiments experiments;
  const ImageSpec large{1, 4096, 4096};
  const std::string plain = "teacher.student.attention_resolutions=[]";
  CHECK_THAT(
      experiments.planning({plain, "student.patch_size=64", "train.batch=65536"}, large),
      Contains("train.batch = 65536 images of 1x4096x4096 needs") && Contains("smaller batch"));
  CHECK_THAT(experiments.planning(
                 {"diffusion.steps=100000", "train.batch=65536", "row.dynamic.method.rho=100"}),
             Contains("row \"dynamic\": what dynamic keeps") && Contains("of memory"));
  CHECK_THAT(
      experiments.planning({plain, "sample.count=100000000", "sample.save=true"}, {1, 256, 256}),
      Contains("count = 100000000 images of 1x256x256 take 13107 GB of disk") &&
          Contains("smaller count"));
  CHECK_THAT(experiments.planning({plain, "synthetic.count=100000000"}, {1, 256, 256}),
             Contains("[synthetic]: count = 100000000"));
  // Samples that are not kept go through one batch at a time.
  CHECK(experiments.planning({"sample.count=100000000"}) == "");
}

TEST_CASE("limits: evaluations and runs without number, and image shapes beyond what is supported",
          "[unit][config]") {
  Experiments experiments;
  CHECK_THAT(experiments.planning({"evaluate.every=1", "train.steps=100000000"}),
             Contains("evaluate.every = 1 of train.steps = 100000000 is 100000000 evaluations"));
  CHECK_THAT(experiments.planning({}, {1, 16, 16}, 50001),
             Contains("2 rows with 50001 seeds are 100002 runs"));
  for (const ImageSpec spec : {ImageSpec{1, 5000, 5000}, ImageSpec{0, 16, 16},
                               ImageSpec{65, 16, 16}, ImageSpec{1, 0, 0}}) {
    CHECK_THAT(experiments.planning({}, spec),
               Contains("dataset fashion-mnist: images of ") &&
                   Contains("expected 1…64 channels and sides of 1…4096"));
  }
}
