// Plans made before there are data and weights: the paper's costs, sizes and needs.
#include <catch2/catch.hpp>

#include <cmath>
#include <fstream>
#include <map>

#include "fixtures/planned.hpp"
#include "plugin/announce.hpp"
#include "run/footprint.hpp"

using namespace dkdm;
using Catch::Matchers::Contains;
using fixtures::stage_of;
using stages::Stage;
using Desk = fixtures::PlanDesk;

namespace {

const plugin::Registry& registry() { return fixtures::shipped_plugins(); }

// The shipped experiment, planned where there is nothing: no images, no teacher, no Inception.
constexpr double kTflops = 100;
constexpr run::PlanExtras kNoCosts{.look = true, .list_needs = true};

run::Plan planned_without_files(
    Desk& desk, const std::string& name, std::vector<std::string> overrides = {},
    const run::PlanExtras& extras = {
        .estimate = true, .look = true, .footprints = true, .list_needs = true}) {
  static run::CostModel cost(registry(), kTflops);  // each network is measured once
  overrides.push_back("dataset.root=" + (desk.folder.path / "no-images").string());
  overrides.push_back("evaluator.weights=" + (desk.folder.path / "no-weights.pth").string());
  const std::filesystem::path shipped = std::filesystem::path(DKDM_SOURCE_DIR) / "experiments";
  return run::make_plan(
      config::load_experiment({shipped / ("paper/" + name + ".toml"), overrides, shipped},
                              registry()),
      {}, desk.context, desk.store, cost, extras);
}

std::vector<std::string> titles(const run::Plan& plan) {
  std::vector<std::string> titles;
  for (const auto& need : plan.needs) titles.push_back(need.title());
  return titles;
}

double macs(const Stage& stage) { return stage.estimated_s * kTflops * 1e12 / 2; }

}  // namespace

// The specification's table of costs: multiply-accumulates, of which each is two operations.
TEST_CASE("plan: at a stated rate the paper's stages cost what their operations do, without files",
          "[unit][run]") {
  Desk desk;
  const auto table = planned_without_files(desk, "table2_cifar10");
  CHECK(macs(stage_of(table, "dynamic", "pool")) == Approx(2.37e17).epsilon(0.02));
  CHECK(macs(stage_of(table, "dynamic", "train")) == Approx(4.21e17).epsilon(0.02));
  CHECK(macs(stage_of(table, "data_based", "train")) == Approx(1.84e17).epsilon(0.02));
  CHECK(macs(stage_of(table, "data_limited_5", "train")) == Approx(1.84e17).epsilon(0.02));
  CHECK(macs(stage_of(table, "data_free", "synthetic")) == Approx(4.64e17).epsilon(0.02));
  CHECK(macs(stage_of(table, "teacher", "sample")) == Approx(2.3e16).epsilon(0.02));
  CHECK(macs(stage_of(table, "dynamic", "sample")) == Approx(6.0e15).epsilon(0.02));
}

// The specification's figures of disk, in GB.
TEST_CASE("plan: the paper's sets take the disk that they are known to take", "[unit][run]") {
  Desk desk;
  struct Sizes {
    const char* name;
    double pool, synthetic;
  };
  for (const auto& [name, pool, synthetic] :
       {Sizes{"table2_cifar10", 0.63, 0.15}, {"table2_imagenet32", 2.52, 3.9}}) {
    INFO(name);
    const auto plan = planned_without_files(desk, name);
    CHECK(stage_of(plan, "dynamic", "pool").footprint.disk == Approx(pool * 1e9).epsilon(0.1));
    CHECK(stage_of(plan, "data_free", "synthetic").footprint.disk ==
          Approx(synthetic * 1e9).epsilon(0.1));
    // 14M weights, raw and averaged, and 19 or 49 sets of them on the way.
    const auto& train = stage_of(plan, "dynamic", "train").footprint;
    const double weights = 4.0 * 14.1e6,
                 snapshots = name == std::string("table2_cifar10") ? 19 : 49;
    CHECK(train.disk == Approx((2 + snapshots) * weights).epsilon(0.05));
    CHECK(train.working == Approx(2 * (4 * weights + pool * 1e9)).epsilon(0.05));
    // At least weights in five copies, the 57M teacher and the batch set; the rest are activations.
    CHECK(train.memory() > 5 * weights + 4 * 57e6 + pool * 1e9);
  }
  CHECK(run::sampling_footprint({}, {3, 64, 64}, {.count = 202599, .batch = 300}, true).disk ==
        Approx(2.5e9).epsilon(0.1));
  CHECK(run::preparation_footprint({}, 102400.0 * 3 * 64 * 64 * 4, {3, 64, 64}, 256).disk ==
        Approx(5.03e9).epsilon(0.1));
}

// The largest teacher of the paper, 295M, and its batch set, in bytes.
TEST_CASE("plan: the memory of the paper's largest experiment, by what it is for", "[unit][run]") {
  Desk desk;
  const auto plan = planned_without_files(
      desk, "table2_celeba64", {},
      {.look = true, .footprints = true, .list_needs = true, .any_machine = true});
  const auto& train = stage_of(plan, "dynamic", "train").footprint.parts;
  CHECK(train.teacher == Approx(4 * 295e6).epsilon(0.02));
  CHECK(train.weights == Approx(4 * 57e6).epsilon(0.05));
  CHECK(train.gradients == train.ema);
  CHECK(train.moments == 2 * train.gradients);
  CHECK(train.batch_set == Approx(5.03e9).epsilon(0.1));
  CHECK(train.batch == 12.0 * 4 * 256 * 3 * 64 * 64);
  CHECK(train.activations > 256 * 1e8);
  CHECK(stage_of(plan, "dynamic", "train").footprint.remedy ==
        "lower train.batch or method.rho, or train.precision = \"bf16\"");
  const auto& pool = stage_of(plan, "dynamic", "pool").footprint;
  CHECK(pool.parts.weights == 0);
  CHECK(pool.parts.batch_set == train.batch_set);
  CHECK(pool.remedy ==
        "lower method.teacher_batch or method.rho, or train.teacher_precision = \"bf16\"");
  CHECK(stage_of(plan, "teacher", "sample").footprint.remedy ==
        "lower sample.batch, or sample.precision = \"bf16\"");
  // 16 bits: less of activations, the same of all else.
  const auto half = planned_without_files(
      desk, "table2_celeba64", {"train.precision=bf16", "train.teacher_precision=fp32"},
      {.look = true, .footprints = true, .list_needs = true, .any_machine = true});
  const auto& reduced = stage_of(half, "dynamic", "train").footprint;
  CHECK(reduced.parts.activations < 0.9 * train.activations);
  CHECK(reduced.parts.networks() == train.networks());
  CHECK(reduced.remedy == "lower train.batch or method.rho");
}

TEST_CASE("plan: what is absent is listed with its rows, and no key of what depends on it is shown",
          "[unit][run]") {
  Desk desk;
  const auto plan = planned_without_files(desk, "table2_cifar10");
  CHECK(titles(plan) == std::vector<std::string>{"dataset cifar10", "evaluator inception",
                                                 "teacher guided-diffusion"});
  for (const auto& need : plan.needs) {
    INFO(need.title());
    REQUIRE(need.absent.size() == 1);  // the folder, for its five files
    CHECK(need.absent[0].remedy.size() > 20);
    // FID is against the images, and under its network: every row needs those two.
    CHECK(need.rows.size() == (need.kind == "teacher" ? 7 : 8));
    CHECK((need.kind != "teacher" || need.rows[1] != "data_based"));
  }
  for (const auto& stage : plan.stages) {
    INFO(stage.label);
    CHECK_FALSE(stage.needs.empty());
    CHECK(stage.key.starts_with("unknown-"));
    CHECK_FALSE(stage.find(desk.store));
  }
  CHECK(stage_of(plan, "data_based", "train").needs == std::vector<std::string>{"dataset cifar10"});
  CHECK(stage_of(plan, "dynamic", "train").needs ==
        std::vector<std::string>{"teacher guided-diffusion"});
  CHECK(stage_of(plan, "dynamic", "evaluate").needs.size() == 3);
  // Two teachers whose files are absent are two.
  const auto table5 = planned_without_files(desk, "table5", {}, kNoCosts);
  CHECK(stage_of(table5, "cnn_cnn_dynamic", "train").key !=
        stage_of(table5, "vit_cnn_dynamic", "train").key);
  CHECK(stage_of(table5, "vit_cnn_dynamic", "train").needs ==
        std::vector<std::string>{"dataset cifar10"});  // its teacher is trained here
}

TEST_CASE("plan: datasets and teachers say what is expected in their absent files",
          "[unit][plugin]") {
  fixtures::ScratchFolder scratch;
  const auto announced = [&](const char* kind, const char* name,
                             std::map<std::string, Value> given) {
    const auto& info = registry().find(kind, name);
    return plugin::announced(
        registry(), {info.kind, info.name, info.version, Params(info.params, given, name)});
  };
  const std::string nowhere = (scratch.path / "nowhere").string();
  struct Set {
    const char* name;
    std::map<std::string, Value> given;
    ImageSpec spec;
    std::int64_t images;
  };
  // As published; an npz and a folder of images say nothing before they are there.
  for (const Set& set :
       {Set{"cifar10", {}, {3, 32, 32}, 50000},
        Set{"cifar10", {{"split", std::string("test")}}, {3, 32, 32}, 10000},
        Set{"celeba64", {}, {3, 64, 64}, 202599}, Set{"imagenet32", {}, {3, 32, 32}, 1281167},
        Set{"imagenet32", {{"split", std::string("val")}}, {3, 32, 32}, 50000},
        Set{"celebahq256", {}, {3, 256, 256}, 25000}, Set{"ffhq256", {}, {3, 256, 256}, 60000},
        Set{"ffhq256", {{"own_list", true}}, {3, 256, 256}, 0},
        Set{"fashion-mnist", {{"size", std::int64_t{28}}}, {1, 28, 28}, 60000},
        Set{"image-folder", {{"size", std::int64_t{48}}}, {3, 48, 48}, 0},
        Set{"image-folder", {{"size", std::int64_t{0}}}, {0, 0, 0}, 0},
        Set{"npz", {}, {0, 0, 0}, 0}}) {
    INFO(set.name);
    auto given = set.given;
    given[set.name == std::string("npz") ? "file" : "root"] = nowhere;
    const auto said = announced("dataset", set.name, given);
    REQUIRE_FALSE(said.absent.empty());
    CHECK_THAT(said.absent[0].path.string(), Contains(nowhere));
    CHECK(said.spec == set.spec);
    CHECK(said.images == set.images);
  }
  // One of five files: that one.
  std::filesystem::create_directory(nowhere);
  for (const int i : {1, 2, 4, 5})
    std::ofstream(nowhere + "/data_batch_" + std::to_string(i) + ".bin") << "there";
  const auto part = announced("dataset", "cifar10", {{"root", nowhere}});
  REQUIRE(part.absent.size() == 1);
  CHECK(part.absent[0].path == nowhere + "/data_batch_3.bin");

  for (const char* name : {"guided-diffusion", "diffusers", "torchscript", "checkpoint"}) {
    INFO(name);
    CHECK(announced("teacher", name, {{"path", nowhere}}).absent.empty());
    const auto said = announced("teacher", name, {{"path", nowhere + "/no"}});
    REQUIRE(said.absent.size() == 1);
    CHECK_FALSE(said.network);
    CHECK(announced("teacher", name, {}).absent.at(0).path.empty());
  }
  const auto large =
      announced("teacher", "guided-diffusion", {{"network", std::string("295M-CNN")}});
  REQUIRE(large.network);
  CHECK(large.network->student == "adm-unet");
  CHECK(large.network->context.shape == SampleShape{3, 64, 64});
  CHECK(large.network->context.diffusion == DiffusionConfig{"cosine", 1000, ""});
}

TEST_CASE("plan: of a teacher of which nothing is known, sizes and costs are unknown too",
          "[unit][run]") {
  Desk desk;
  const auto plan = planned_without_files(desk, "table2_cifar10", {"teacher.network="});
  CHECK(std::isnan(stage_of(plan, "dynamic", "pool").estimated_s));
  CHECK(std::isnan(stage_of(plan, "dynamic", "train").estimated_s));
  CHECK(std::isnan(stage_of(plan, "dynamic", "train").footprint.memory()));
  CHECK(macs(stage_of(plan, "data_based", "train")) == Approx(1.84e17).epsilon(0.02));
  CHECK_THROWS_WITH(
      planned_without_files(desk, "table2_cifar10", {"teacher.network=295M-CNN"}, kNoCosts),
      Contains("the teacher makes images of 3x64x64, the run's are 3x32x32"));
}

TEST_CASE("plan: a plan that is to be run names all that is absent in one error", "[unit][run]") {
  Desk desk;
  const auto images = desk.folder.path / "no-images", weights = desk.folder.path / "no-weights";
  const std::vector<std::string> one{"dataset.root=" + images.string()};
  auto both = one;
  both.emplace_back("evaluator.plugin=inception");
  both.emplace_back("evaluator.weights=" + weights.string());
  CHECK_THROWS_WITH(desk.plan(one),
                    Contains(images.string()) && Contains("apt-get install dataset-fashion-mnist"));
  try {
    desk.plan(both);
    FAIL("planned");
  } catch (const Error& error) {
    CHECK(error.exit_code() == ExitCode::missing);
    CHECK_THAT(error.what(), Contains("dataset fashion-mnist (teacher, dynamic, shuffled, free)") &&
                                 Contains("apt-get install dataset-fashion-mnist") &&
                                 Contains("evaluator inception") && Contains(weights.string()));
    CHECK(std::string(error.what()).find('\n') == std::string::npos);
  }
  // Listed, they change no key but of what they would say: the pools' teacher is trained on images.
  const auto plan = desk.plan(both, {}, {.list_needs = true});
  CHECK(plan.needs.size() == 2);
  for (const auto& run : plan.runs) CHECK(run.record.key.starts_with("unknown-"));
}
