// Plans: which stages an experiment needs, what decides whether two are one, what they cost, why
// one is missing.
#include "run/plan.hpp"

#include <catch2/catch.hpp>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <fstream>
#include <set>

#include "fixtures/analytic.hpp"
#include "plugin/announce.hpp"
#include "run/explain.hpp"
#include "run/footprint.hpp"
#include "run/run_host.hpp"
#include "run/runner.hpp"

using namespace dkdm;
using Catch::Matchers::Contains;
using stages::Stage;
using stages::StageKind;

namespace {

const plugin::Registry& registry() { return fixtures::shipped_plugins(); }

const std::string kText = R"([experiment]
name = "plans"
seeds = [0, 1]
[dataset]
plugin = "fashion-mnist"
[teacher]
plugin = "checkpoint"
method = { plugin = "data-based" }
[teacher.student]
plugin = "unet-lite"
[student]
plugin = "dit"
depth = 2
hidden_size = 48
num_heads = 3
patch_size = 4
[train]
steps = 30
batch = 8
[sample]
count = 96
respacing = "10"
[evaluator]
plugin = "classifier"
[[row]]
id = "teacher"
teacher = true
[[row]]
id = "dynamic"
method = { plugin = "dynamic" }
[[row]]
id = "shuffled"
method = { plugin = "shuffled" }
[[row]]
id = "free"
method = { plugin = "data-free" }
)";

// A plan of kText in an empty store.
struct Desk {
  fixtures::ScratchFolder folder;
  record::ArtifactStore store{folder.path / "home"};
  std::atomic<bool> stop{false};
  run::RunHost host{registry(), stop, nullptr};
  std::shared_ptr<Dataset> images =
      std::make_shared<fixtures::NumberedImages>(600, 0, ImageSpec{1, 16, 16});
  stages::StageContext context{registry(), host, [this](const auto&) { return images; }};
  run::CostModel cost{registry()};

  run::Plan plan(const std::vector<std::string>& overrides = {},
                 const run::Selection& selection = {}, const run::PlanExtras& extras = {}) {
    return planned(kText, overrides, selection, extras);
  }
  run::Plan planned(const std::string& text, const std::vector<std::string>& overrides = {},
                    const run::Selection& selection = {}, const run::PlanExtras& extras = {}) {
    const auto file = folder.path / "plans.toml";
    std::ofstream(file) << text;
    return run::make_plan(config::load_experiment({file, overrides, {}}, registry()), selection,
                          context, store, cost, extras);
  }
};

// The stage called `name` of a row's run.
const Stage& stage_of(const run::Plan& plan, const std::string& row, const std::string& name,
                      std::int64_t seed = 0) {
  for (const auto& run : plan.runs) {
    if (run.record.row != row || run.record.seed != seed) continue;
    for (const auto& [stage, index] : run.stages)
      if (stage == name) return plan.stages[index];
  }
  FAIL("row " << row << " has no stage " << name);
  throw std::logic_error("unreachable");
}

std::string part(const Stage& stage, const std::string& name) {
  for (const auto& [part, value] : stage.parts)
    if (part == name) return value;
  return "";
}

// Puts an artifact where the stage's would be.
void publish(record::ArtifactStore& store, const Stage& stage) {
  record::Manifest manifest;
  manifest.parts = stage.parts;
  store.make(
      name_of(stage.kind), stage.key, manifest,
      [](const std::filesystem::path& folder, record::Manifest&) {
        std::ofstream(folder / "output") << "made";
      },
      [](const std::string&) {});
}

}  // namespace

TEST_CASE("plan: equal work is one stage, and stands before what reads it", "[unit][run]") {
  Desk desk;
  const auto plan = desk.plan();
  REQUIRE(plan.runs.size() == 8);
  CHECK(plan.asked.size() == 8);
  std::set<std::pair<StageKind, std::string>> known;
  for (std::size_t i = 0; i < plan.stages.size(); ++i) {
    const auto& stage = plan.stages[i];
    INFO(stage.label);
    CHECK(known.insert({stage.kind, stage.key}).second);
    CHECK(stage.key == record::content_key(stage.parts));
    for (const auto input : stage.inputs) CHECK(input < i);
  }
  const auto count = [&](StageKind kind) {
    return std::count_if(plan.stages.begin(), plan.stages.end(),
                         [&](const Stage& stage) { return stage.kind == kind; });
  };
  CHECK(count(StageKind::train) == 7);  // one teacher, three students of two seeds each
  CHECK(count(StageKind::synthetic) == 1);
  CHECK(count(StageKind::pool) == 4);  // of "dynamic" and "shuffled", for each seed
  CHECK(count(StageKind::evaluator) == 1);
  CHECK(count(StageKind::evaluate) == 8);
  // The teacher is one network; its samples differ with the seed.
  CHECK(stage_of(plan, "dynamic", "teacher", 0).key == stage_of(plan, "free", "teacher", 1).key);
  CHECK(stage_of(plan, "teacher", "sample", 0).key != stage_of(plan, "teacher", "sample", 1).key);
}

TEST_CASE("plan: every key begins with its kind and a revision", "[unit][run]") {
  Desk desk;
  for (const auto& stage : desk.plan({"evaluate.every=10"}).stages) {
    INFO(stage.label);
    REQUIRE(stage.parts.size() > 2);
    CHECK(stage.parts[0] == std::pair<std::string, std::string>("stage", name_of(stage.kind)));
    CHECK(stage.parts[1].first == "revision");
    CHECK(std::stoi(stage.parts[1].second) >= 1);
    // A later revision is another key: what the core made before is made again.
    auto later = stage.parts;
    later[1].second = std::to_string(std::stoi(later[1].second) + 1);
    CHECK(record::content_key(later) != stage.key);
  }
}

TEST_CASE("plan: a batch set is shared by students that differ in the loss alone", "[unit][run]") {
  Desk desk;
  const auto plain = desk.plan();
  const auto with = [&](const std::string& setting) {
    return desk.plan({"row.dynamic.method." + setting});
  };
  const auto pool = stage_of(plain, "dynamic", "pool").key,
             train = stage_of(plain, "dynamic", "train").key;
  for (const char* setting : {"lambda=0.5", "student_clip=true", "t0_term=decoder"}) {
    INFO(setting);
    CHECK(stage_of(with(setting), "dynamic", "pool").key == pool);
    CHECK(stage_of(with(setting), "dynamic", "train").key != train);
  }
  for (const char* setting : {"rho=0.1", "respacing=50", "teacher_clip=none", "first_states=all"}) {
    INFO(setting);
    CHECK(stage_of(with(setting), "dynamic", "pool").key != pool);
  }
  // Sets of several rho that are the first rows of one are prepared once, and trained on apart.
  const auto of = [&](const std::string& rho) {
    return desk.plan({"row.dynamic.method.prepared_rho=0.4", "row.dynamic.method.rho=" + rho});
  };
  CHECK(stage_of(of("0.1"), "dynamic", "pool").key == stage_of(of("0.2"), "dynamic", "pool").key);
  CHECK(stage_of(of("0.4"), "dynamic", "pool").key == pool);
  CHECK(stage_of(of("0.4"), "dynamic", "train").key == train);
  CHECK(stage_of(of("0.1"), "dynamic", "train").key != stage_of(of("0.2"), "dynamic", "train").key);
  CHECK_NOTHROW(
      desk.plan({"row.dynamic.method.prepared_rho=0.1", "row.dynamic.method.prepare=streaming"}));
  CHECK_THROWS_WITH(of("0.5"), Contains("prepared_rho = 0.4 prepares 3200 rows, the set has 4000"));
  // Two values of rho that make as many rows make one set.
  const auto rows = part(stage_of(plain, "dynamic", "pool"), "method");
  CHECK_THAT(rows, Contains("rows = ") && !Contains("rho") && !Contains("lambda"));
}

TEST_CASE("plan: shuffled's batch is the first one of dynamic's set", "[unit][run]") {
  Desk desk;
  const auto prepared = [&](std::vector<std::string> overrides) {
    overrides.emplace_back("experiment.seeds=[0]");
    std::set<std::string> keys;
    for (const auto& stage : desk.plan(overrides).stages)
      if (stage.kind == StageKind::pool) keys.insert(stage.key);
    return keys;
  };
  const std::string shuffled = "row.shuffled.method.prepared_rho=",
                    dynamic = "row.dynamic.method.rho=0.4";
  CHECK(prepared({shuffled + "0.4", dynamic}).size() == 1);
  CHECK(prepared({shuffled + "0.2", dynamic}).size() == 2);
  CHECK(prepared({shuffled + "0.4", dynamic, "row.shuffled.method.teacher_clip=none"}).size() == 2);
}

TEST_CASE("plan: what only says how often to look is in no key", "[unit][run]") {
  Desk desk;
  const auto plain = desk.plan(),
             other = desk.plan({"train.log_every=7", "train.checkpoint_every=3"});
  CHECK(stage_of(plain, "dynamic", "train").key == stage_of(other, "dynamic", "train").key);
  CHECK(stage_of(desk.plan({"train.lr=0.5"}), "dynamic", "train").key !=
        stage_of(plain, "dynamic", "train").key);
}

TEST_CASE("plan: what a sampler does not read is in no key of its samples", "[unit][run]") {
  Desk desk;
  const auto samples = [&](const std::vector<std::string>& settings) {
    return stage_of(desk.plan(settings), "dynamic", "sample").key;
  };
  CHECK(samples({"sample.eta=0.5"}) == samples({}));
  CHECK(samples({"sample.solver_steps=9"}) == samples({}));
  CHECK(samples({"sample.batch=7"}) == samples({}));
  CHECK(samples({"sample.sampler=ddim", "sample.eta=0.5"}) != samples({"sample.sampler=ddim"}));
  CHECK(samples({"sample.sampler=dpm-solver", "sample.respacing=25"}) ==
        samples({"sample.sampler=dpm-solver"}));
  CHECK(samples({"sample.sampler=dpm-solver", "sample.solver_steps=9"}) !=
        samples({"sample.sampler=dpm-solver"}));
  CHECK(samples({"sample.clip_denoised=false"}) != samples({}));
}

TEST_CASE("plan: shards share out the runs and know all the cells", "[unit][run]") {
  Desk desk;
  std::multiset<std::string> cells;
  for (std::int64_t shard = 1; shard <= 3; ++shard) {
    const auto plan = desk.plan({}, {{}, {}, shard, 3});
    CHECK(plan.asked.size() == 8);
    for (const auto& run : plan.runs) cells.insert(run.record.key);
  }
  std::multiset<std::string> expected;
  for (const auto& run : desk.plan().runs) expected.insert(run.record.key);
  CHECK(cells == expected);
  CHECK_THROWS_WITH(desk.plan({}, {{"dynamik"}, {}, 1, 1}),
                    Contains("no row \"dynamik\"") && Contains("did you mean \"dynamic\"?"));
}

TEST_CASE("plan: a stage whose output is there needs none of its inputs", "[unit][run]") {
  Desk desk;
  const run::Selection one{{"dynamic"}, {0}, 1, 1};
  const auto plan = desk.plan({}, one);
  const auto missing = [&] {
    std::vector<std::string> labels;
    for (const auto index : run::missing_stages(plan, desk.store))
      labels.push_back(plan.stages[index].label);
    return labels;
  };
  // The evaluator first: a reference that cannot be used shows before anything is trained.
  CHECK(missing() == std::vector<std::string>{"prepare the evaluator", "train the teacher",
                                              "prepare dynamic", "train dynamic",
                                              "sample and evaluate dynamic"});
  publish(desk.store, stage_of(plan, "dynamic", "train"));
  CHECK(missing() ==
        std::vector<std::string>{"prepare the evaluator", "sample and evaluate dynamic"});
  publish(desk.store, stage_of(plan, "dynamic", "evaluate"));
  CHECK(missing().empty());
}

TEST_CASE("plan: samples that are on disk are evaluated from there", "[unit][run]") {
  Desk desk;
  const run::Selection one{{"dynamic"}, {0}, 1, 1};
  const auto first = desk.plan({}, one);
  publish(desk.store, stage_of(first, "dynamic", "sample"));
  const auto second = desk.plan({}, one);
  CHECK(stage_of(second, "dynamic", "evaluate").label == "evaluate dynamic");
  CHECK(stage_of(second, "dynamic", "evaluate").key == stage_of(first, "dynamic", "evaluate").key);
}

TEST_CASE("plan: costs are of the work", "[unit][run]") {
  Desk desk;
  const run::Selection one{{"dynamic"}, {0}, 1, 1};
  const run::PlanExtras estimate{.estimate = true, .look = false};
  CHECK(stage_of(desk.plan({}, one), "dynamic", "train").estimated_s == 0);
  const auto plan = desk.plan({}, one, estimate),
             longer = desk.plan({"train.steps=60"}, one, estimate);
  const double once = stage_of(plan, "dynamic", "train").estimated_s;
  REQUIRE(once > 0);
  CHECK(stage_of(longer, "dynamic", "train").estimated_s == Approx(2 * once));
  CHECK(stage_of(plan, "dynamic", "pool").estimated_s > 0);
  CHECK(stage_of(plan, "dynamic", "evaluate").estimated_s >
        stage_of(plan, "dynamic", "sample").estimated_s);
}

TEST_CASE("plan: why a stage is missing", "[unit][run]") {
  Desk desk;
  const run::Selection one{{"dynamic"}, {0}, 1, 1};
  const auto before = stage_of(desk.plan({}, one), "dynamic", "train");
  const auto now = stage_of(desk.plan({"train.lr=0.5", "train.batch=16"}, one), "dynamic", "train");
  CHECK(run::why_missing(now, desk.store, {}) == "not run yet");
  publish(desk.store, before);
  CHECK_THAT(run::why_missing(now, desk.store, {before.key}),
             Contains("differs from " + before.key.substr(0, 8)) &&
                 Contains("batch = 16 (was 8)") && Contains("lr = 0.5"));
  std::filesystem::create_directories(desk.store.root() / "work/train" / now.key);
  std::ofstream(desk.store.root() / "work/train" / now.key / "checkpoint.safetensors") << "some";
  CHECK(run::why_missing(now, desk.store, {before.key}) == "stopped half-way, resumes");
}

TEST_CASE("plan: a row with a dataset, a process or an evaluator of its own has stages of its own",
          "[unit][run]") {
  Desk desk;
  const auto plain = desk.plan();
  const auto images = std::make_shared<fixtures::NumberedImages>(600, 0, ImageSpec{1, 24, 24});
  desk.context.dataset = [&](const plugin::PluginChoice& choice) -> std::shared_ptr<Dataset> {
    return choice.params.integer("size") == 24 ? images : desk.images;
  };
  const auto own = [&](const std::string& setting) { return desk.plan({"row.free." + setting}); };
  const auto same = [&](const run::Plan& plan, const std::string& row, const std::string& stage) {
    return stage_of(plan, row, stage).key == stage_of(plain, row, stage).key;
  };
  const auto sized = own("dataset.size=24");
  for (const char* stage : {"teacher", "synthetic", "train"}) {
    INFO(stage);
    CHECK_FALSE(same(sized, "free", stage));
  }
  CHECK(part(stage_of(sized, "free", "train"), "image") == "1x24x24");
  CHECK(same(sized, "dynamic", "teacher"));
  CHECK(same(sized, "dynamic", "evaluator"));
  CHECK(sized.runs[3].record.dataset == "fashion-mnist");

  const auto shorter = own("diffusion.steps=500");
  CHECK_FALSE(same(shorter, "free", "teacher"));
  CHECK(same(shorter, "dynamic", "train"));

  const auto wide = own("evaluator.width=8");
  CHECK_FALSE(same(wide, "free", "evaluator"));
  CHECK(same(wide, "free", "train"));
  CHECK(same(wide, "dynamic", "evaluate"));

  const auto drawn = own("synthetic.count=50");
  CHECK_FALSE(same(drawn, "free", "synthetic"));
  CHECK(same(drawn, "free", "teacher"));
}

TEST_CASE("plan: each row learns from the teacher that it names", "[unit][run]") {
  Desk desk;
  const std::string first =
      "[teacher]\nplugin = \"checkpoint\"\nmethod = { plugin = \"data-based\" }\n[teacher.student]\n";
  std::string text = kText;
  const auto put = [&](const std::string& from, const std::string& to) {
    REQUIRE(text.find(from) != std::string::npos);
    text.replace(text.find(from), from.size(), to);
  };
  put(first,
      "[teacher.lite]\nplugin = \"checkpoint\"\nmethod = { plugin = \"data-based\" }\n[teacher.lite.student]\n");
  put("[student]\n",
      "[teacher.dit]\nplugin = \"checkpoint\"\nmethod = { plugin = \"data-based\" }\nstudent = { plugin = "
      "\"dit\", depth = 2, hidden_size = 48, num_heads = 3, patch_size = 4 }\n[student]\n");
  put("teacher = true", "teacher = \"dit\"");
  put("id = \"dynamic\"", "id = \"dynamic\"\nteacher = \"lite\"");
  put("id = \"shuffled\"", "id = \"shuffled\"\nteacher = \"dit\"");
  put("id = \"free\"", "id = \"free\"\nteacher = \"dit\"");
  const auto plan = desk.planned(text);
  CHECK(stage_of(plan, "shuffled", "teacher").key == stage_of(plan, "free", "teacher").key);
  CHECK(stage_of(plan, "shuffled", "teacher").key == stage_of(plan, "teacher", "teacher").key);
  CHECK(stage_of(plan, "dynamic", "teacher").key != stage_of(plan, "free", "teacher").key);
  CHECK(stage_of(plan, "dynamic", "teacher").label == "train the teacher lite");
  CHECK(plan.runs[1].record.teacher_key == stage_of(plan, "dynamic", "teacher").key);
  // A method that needs a teacher has one; the others need none.
  std::string nameless = text;
  nameless.replace(nameless.find("teacher = \"lite\"\n"), 17, "");
  CHECK_THROWS_WITH(desk.planned(nameless),
                    Contains("plans.toml:32:1: row \"dynamic\": dynamic needs a teacher"));
  nameless.replace(nameless.find("plugin = \"dynamic\""), 18, "plugin = \"data-based\"");
  CHECK(desk.planned(nameless).runs[1].record.teacher.empty());
}

TEST_CASE("plan: a teacher that would need a teacher is refused", "[unit][run]") {
  Desk desk;
  CHECK_THROWS_WITH(desk.plan({"teacher.method.plugin=dynamic"}),
                    Contains("its teacher is trained by dynamic, which needs a teacher itself"));
}

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
