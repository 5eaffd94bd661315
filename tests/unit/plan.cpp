// Plans: which stages an experiment needs, what decides whether two are one, what they cost, why
// one is missing.
#include "run/plan.hpp"

#include <catch2/catch.hpp>

#include <algorithm>
#include <fstream>
#include <set>

#include "fixtures/planned.hpp"
#include "run/explain.hpp"
#include "run/runner.hpp"

using namespace dkdm;
using Catch::Matchers::Contains;
using fixtures::stage_of;
using stages::Stage;
using stages::StageKind;
using Desk = fixtures::PlanDesk;

namespace {

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

TEST_CASE("plan: settings that came later are in no key while they are at their defaults",
          "[unit][run]") {
  Desk desk;
  const auto train = [&](const std::vector<std::string>& settings) {
    return part(stage_of(desk.plan(settings), "dynamic", "train"), "train");
  };
  // The lines of a key from before there was any of them, in their order.
  CHECK(train({}) ==
        "batch = 8\nsteps = 30\nlr = 1e-04\nwarmup_steps = 0\nlr_decay = \"none\"\n"
        "weight_decay = 0.0\nbeta1 = 0.9\nbeta2 = 0.999\nadam_eps = 1e-08\nema = 0.9999\n"
        "ema_warmup = false\ngrad_clip = 0.0\n");
  CHECK(train({"train.last_batch=drop"}) == train({}));
  CHECK_THAT(train({"train.last_batch=keep"}), Contains("last_batch = \"keep\"\n"));
  CHECK_THAT(train({"train.ema_warmup=true"}), Contains("ema_warmup = true\n"));
  CHECK_THAT(train({"train.ema_warmup=ldm"}), Contains("ema_warmup = \"ldm\"\n"));
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
  CHECK(samples({"sample.set_alpha_to_one=false", "sample.steps_offset=1"}) == samples({}));
  const auto ddim = [&](std::vector<std::string> more) {
    more.insert(more.end(), {"sample.sampler=ddim", "sample.respacing=ddim10"});
    return samples(more);
  };
  CHECK(ddim({"sample.set_alpha_to_one=true", "sample.steps_offset=0"}) == ddim({}));
  CHECK(ddim({"sample.steps_offset=1"}) != ddim({}));
  CHECK(ddim({"sample.set_alpha_to_one=false"}) != ddim({}));
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
  std::string text = fixtures::kPlanned;
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
