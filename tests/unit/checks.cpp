// Checks of published values: how their files are read, what agrees, and that the shipped ones ask
// for what was published.
#include <catch2/catch.hpp>

#include <cmath>
#include <fstream>
#include <limits>

#include "config/checks.hpp"
#include "config/experiment.hpp"
#include "fixtures/analytic.hpp"
#include "results/store/published.hpp"
#include "run/compare.hpp"
#include "run/cost.hpp"

using namespace dkdm;
using Catch::Matchers::Contains;
namespace fs = std::filesystem;

namespace {

const plugin::Registry& registry() { return fixtures::shipped_plugins(); }

const fs::path kExperiments = fs::path(DKDM_SOURCE_DIR) / "experiments";

const std::string kText = R"(title = "Two checks"
tolerance = { fid = 0.1, is = 0.2 }
[teacher.ours]
file = "ours.pt"
from = "a colleague"
[[check]]
id = "a-one"
experiment = "paper/table2_cifar10.toml"
row = "teacher"
teacher = "ours"
[[check]]
id = "a-two"
label = "Another"
experiment = "paper/table2_cifar10.toml"
row = "teacher"
images = { split = "test" }
expected = { is = 3, fid = 1.5 }
tolerance = { fid = 0.01 }
source = "elsewhere"
flops = 2e15
)";

struct Files {
  fixtures::ScratchFolder folder;
  fs::path file = folder.path / "checks.toml";

  config::Checks load(const std::string& text) {
    std::ofstream(file) << text;
    return config::load_checks(file, kExperiments, registry());
  }
  // kText with the first `old` replaced.
  config::Checks edited(const std::string& old, const std::string& text) {
    std::string whole = kText;
    return load(whole.replace(whole.find(old), old.size(), text));
  }
};

record::MetricRecord metric(const std::string& name, double value) {
  record::MetricRecord record;
  record.name = name;
  record.value = value;
  record.protocol = "adm-1";
  record.sample_count = 50000;
  return record;
}

const config::Check& check(const config::Checks& checks, const std::string& id) {
  for (const auto& one : checks.checks)
    if (one.id == id) return one;
  throw std::out_of_range(id);
}

using Values = config::NamedValues;

}  // namespace

TEST_CASE("checks: a file gives each check its own values or none, and the nearest tolerance",
          "[unit][config]") {
  Files files;
  const auto checks = files.load(kText);
  CHECK(checks.title == "Two checks");
  REQUIRE(checks.checks.size() == 2);
  const auto &one = checks.checks[0], &two = checks.checks[1];
  CHECK(one.label == "a-one");
  CHECK(one.experiment == kExperiments / "paper/table2_cifar10.toml");
  CHECK(one.row == "teacher");
  REQUIRE(one.teacher);
  CHECK(one.teacher->name == "ours.pt");
  CHECK(one.teacher->from == "a colleague");
  CHECK_FALSE(one.images);
  CHECK(one.values.empty());
  CHECK(two.label == "Another");
  CHECK(two.images);
  CHECK(two.source == "elsewhere");
  CHECK(two.flops == 2e15);

  const auto published = config::expected_values(one, {{"fid", 4.45}});
  REQUIRE(published.size() == 1);
  CHECK(published[0].value == 4.45);
  CHECK(published[0].tolerance == 0.1);
  const auto own = config::expected_values(two, {{"fid", 4.45}});  // its own come first
  REQUIRE(own.size() == 2);
  CHECK(own[0].metric == "is");
  CHECK(own[0].value == 3);
  CHECK(own[0].tolerance == 0.2);
  CHECK(own[1].metric == "fid");
  CHECK(own[1].value == 1.5);
  CHECK(own[1].tolerance == 0.01);
  CHECK_THROWS_WITH(config::expected_values(one, {}),
                    Contains("checks.toml:6:") && Contains("a-one") && Contains("expected = {"));
  CHECK_THROWS_WITH(config::expected_values(one, {{"sfid", 7}}), Contains("sfid has no tolerance"));
}

TEST_CASE("checks: what is wrong with a file is named with its line", "[unit][config]") {
  Files files;
  const std::string at = files.file.string() + ":";
  CHECK_THROWS_WITH(files.edited("title", "titel"), Contains(at + "1:1: unknown key \"titel\"") &&
                                                        Contains("did you mean \"title\"?"));
  CHECK_THROWS_WITH(files.edited("source", "sourec"),
                    Contains(at + "19:1: unknown key \"sourec\" in [[check]]"));
  CHECK_THROWS_WITH(files.edited("id = \"a-one\"\n", ""), Contains("id must be given"));
  CHECK_THROWS_WITH(files.edited("a-one", "A one"), Contains(at + "7:6: id: expected letters"));
  CHECK_THROWS_WITH(files.edited("a-two", "a-one"), Contains("is taken by the check at " + at));
  // --set teacher.path=… would be of this check alone.
  CHECK_THROWS_WITH(files.edited("a-two", "teacher-two"), Contains("the section [teacher]"));
  CHECK_THROWS_WITH(files.edited("\"ours\"", "\"our\""),
                    Contains(at + "10:11: there is no [teacher.our], did you mean \"ours\"?"));
  CHECK_THROWS_WITH(files.edited("\"ours.pt\"", "\"b/ours.pt\""), Contains("without a folder"));
  CHECK_THROWS_WITH(files.edited("paper/table2_cifar10", "paper/table9"),
                    Contains(at + "8:14: experiment: there is no paper/table9.toml") &&
                        Contains(kExperiments.string()));
  CHECK_THROWS_WITH(files.edited("is = 3, fid = 1.5", ""), Contains("names no metric"));
  CHECK_THROWS_WITH(files.edited("is = 3", "is = \"3\""), Contains(at + "17:19: is: expected"));
  CHECK_THROWS_WITH(files.edited("fid = 0.01", "fid = -0.01"), Contains(at + "18:21: fid"));
  CHECK_THROWS_WITH(files.edited("flops = 2e15", "flops = -1"), Contains("flops"));
  CHECK_THROWS_WITH(files.load("title = \"none\"\n"), Contains("[[check]]"));
  CHECK_THROWS_WITH(files.load("check = 1\n"), Contains(at + "1:9: expected a list of checks"));
}

TEST_CASE("checks: images are those of the row's dataset but for the parameters that are named",
          "[unit][config]") {
  Files files;
  const auto experiment = config::load_experiment(
      {kExperiments / "paper/table2_cifar10.toml", {"dataset.root=/data"}, kExperiments},
      registry());
  const auto& dataset = *experiment.rows[0].dataset;
  const auto other = [&](const config::Checks& checks) {
    return config::other_images(checks.checks[1], dataset, registry()).params;
  };
  CHECK(other(files.load(kText)).text("split") == "test");
  CHECK(other(files.load(kText)).text("root") == "/data");
  // A place in the file is relative to it.
  CHECK(other(files.edited("split = \"test\"", "root = \"here\"")).text("root") ==
        files.folder.path / "here");
  CHECK_THROWS_WITH(other(files.edited("split =", "spilt =")),
                    Contains(files.file.string() + ":16:12: unknown key \"spilt\""));
  CHECK_THROWS_WITH(other(files.edited("\"test\"", "\"tset\"")), Contains(":16:20: split"));
}

TEST_CASE("checks: a name is a check or the beginning of several, in --only and in --set",
          "[unit][config]") {
  CHECK(config::means("cifar10-teacher", "cifar10-teacher"));
  CHECK(config::means("cifar10", "cifar10-teacher"));
  CHECK_FALSE(config::means("cifar1", "cifar10-teacher"));
  CHECK_FALSE(config::means("cifar10-teacher", "cifar10"));
  CHECK_FALSE(config::means("", "cifar10"));

  Files files;
  const auto all = files.load(kText).checks;
  const std::vector<std::string> given{"evaluator.weights=w.pth", "a.dataset.root=/a",
                                       "a-two.dataset.root=/b", "train.lr=a.b"};
  const std::vector<std::string> first{"evaluator.weights=w.pth", "dataset.root=/a",
                                       "train.lr=a.b"};
  const std::vector<std::string> second{"evaluator.weights=w.pth", "dataset.root=/a",
                                        "dataset.root=/b", "train.lr=a.b"};
  CHECK(config::overrides_for(all[0], all, given) == first);
  CHECK(config::overrides_for(all[1], all, given) == second);
  // What is no check's is left to the experiment to refuse.
  CHECK(config::overrides_for(all[0], all, {"b.dataset.root=/a", "a"}) ==
        std::vector<std::string>{"b.dataset.root=/a", "a"});
}

TEST_CASE("compare: a value agrees up to its tolerance, in decimals as they are written",
          "[unit][run]") {
  using run::Verdict;
  const auto verdict = [](double value, double expected, double tolerance) {
    return run::compare({"fid", expected, tolerance}, {metric("is", 9), metric("fid", value)})
        .verdict;
  };
  CHECK(verdict(3.151, 3.151, 0) == Verdict::agrees);
  CHECK(verdict(3.161, 3.151, 0.01) == Verdict::agrees);  // 0.01 + 2e-16 in binary
  CHECK(verdict(3.141, 3.151, 0.01) == Verdict::agrees);
  CHECK(verdict(4.55, 4.45, 0.1) == Verdict::agrees);
  CHECK(verdict(4.35, 4.45, 0.1) == Verdict::agrees);
  CHECK(verdict(3.161001, 3.151, 0.01) == Verdict::differs);
  CHECK(verdict(3.140999, 3.151, 0.01) == Verdict::differs);
  CHECK(verdict(-4.45, 4.45, 0.1) == Verdict::differs);
  CHECK(verdict(1e-9, 0, 0) == Verdict::differs);

  const auto made = run::compare({"fid", 4.45, 0.1}, {metric("fid", 4.7)});
  REQUIRE(made.difference());
  CHECK(*made.difference() == Approx(0.25));
  CHECK(made.protocol == "adm-1");
  CHECK(made.sample_count == 50000);
  CHECK(made.note.empty());
}

TEST_CASE("compare: what is no number, or not among the metrics, has failed and says so",
          "[unit][run]") {
  using run::Verdict;
  constexpr double kInfinite = std::numeric_limits<double>::infinity();
  // Even within an infinite tolerance.
  for (const double value : {std::nan(""), kInfinite, -kInfinite}) {
    const auto made = run::compare({"fid", 4.45, 1e12}, {metric("fid", value)});
    CHECK(made.verdict == Verdict::failed);
    CHECK_FALSE(made.ours);
    CHECK_FALSE(made.difference());
    CHECK_THAT(made.note, Contains("fid is not a finite number"));
  }
  const auto absent = run::compare({"sfid", 7.09, 0.15}, {metric("fid", 4.45), metric("is", 9.5)});
  CHECK(absent.verdict == Verdict::failed);
  CHECK_FALSE(absent.ours);
  CHECK_THAT(absent.note, Contains("gives no sfid; it gives fid, is"));
  CHECK_THAT(run::compare({"sfid", 7.09, 0.15}, {}).note, Contains("nothing else"));
  CHECK(std::string(run::name_of(Verdict::agrees)) == "agrees");
  CHECK(std::string(run::name_of(Verdict::differs)) == "differs");
  CHECK(std::string(run::name_of(Verdict::needs_files)) == "needs files");
  CHECK(std::string(run::name_of(Verdict::failed)) == "failed");
  CHECK(std::string(run::name_of(Verdict::not_run)) == "not run");
}

namespace {

config::Checks teachers() {
  return config::load_checks(kExperiments / "reproduce/teachers.toml", kExperiments, registry());
}

struct Shipped {
  config::Experiment experiment;
  const config::Row* row = nullptr;
  std::vector<config::ExpectedValue> expected;
};

// The published values of the row, as the command looks them up.
Shipped shipped(const config::Check& check) {
  Shipped made{config::load_experiment({check.experiment, {}, kExperiments}, registry()), {}, {}};
  for (const auto& row : made.experiment.rows)
    if (row.id == check.row) made.row = &row;
  REQUIRE(made.row);
  Values published;
  for (const auto& figure : results::published_figures())
    if (figure.section == made.experiment.published && figure.row == made.row->published)
      published.emplace_back(figure.metric, figure.value);
  made.expected = config::expected_values(check, published);
  return made;
}

struct Published {
  std::string metric;
  double value, tolerance;
};

}  // namespace

TEST_CASE("checks: the shipped ones ask for what was published, the evaluator's first",
          "[unit][config]") {
  const auto checks = teachers();
  // Table 2 of the paper; the evaluator by TensorFlow (FID 3.1508; IS 11.24); DDPM-IP#20 (9.63855,
  // 3.38677). Tolerances: the spread between seeds of 50,000 samples.
  const std::vector<std::pair<std::string, std::vector<Published>>> wanted{
      {"cifar10-evaluator-fid", {{"fid", 3.151, 0.01}}},
      {"cifar10-evaluator-is", {{"is", 11.24, 0.05}}},
      {"cifar10-teacher", {{"is", 9.52, 0.1}, {"fid", 4.45, 0.1}, {"sfid", 7.09, 0.15}}},
      {"cifar10-ddpm-ip", {{"is", 9.639, 0.1}, {"fid", 3.387, 0.1}}},
      {"imagenet32-teacher", {{"is", 13.63, 0.1}, {"fid", 4.67, 0.1}, {"sfid", 4.03, 0.15}}},
      {"celeba64-teacher", {{"is", 3.08, 0.1}, {"fid", 4.43, 0.1}, {"sfid", 6.10, 0.15}}},
  };
  REQUIRE(checks.checks.size() == wanted.size());
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    INFO(wanted[i].first);
    const auto& check = checks.checks[i];
    CHECK(check.id == wanted[i].first);
    const auto made = shipped(check);
    REQUIRE(made.expected.size() == wanted[i].second.size());
    for (const auto& [metric, value, tolerance] : wanted[i].second) {
      INFO(metric);
      const auto found =
          std::find_if(made.expected.begin(), made.expected.end(),
                       [&, name = metric](const auto& e) { return e.metric == name; });
      REQUIRE(found != made.expected.end());
      CHECK(found->value == value);
      CHECK(found->tolerance == tolerance);
    }
  }
}

TEST_CASE("checks: the shipped ones sample the published teachers as they were published",
          "[unit][config]") {
  const auto checks = teachers();
  const std::vector<std::tuple<std::string, std::string, std::string, std::string>> wanted{
      {"cifar10-teacher", "cifar10", "ADM_cifar10_baseline.pt", "50"},
      {"cifar10-ddpm-ip", "cifar10", "ADM_cifar10_baseline.pt", "100"},
      {"imagenet32-teacher", "imagenet32", "DDPM_IP_imageNet32.pt", "50"},
      {"celeba64-teacher", "celeba64", "DDPM_IP_celeba64.pt", "50"}};
  for (const auto& [id, dataset, file, respacing] : wanted) {
    INFO(id);
    const auto& one = check(checks, id);
    const auto made = shipped(one);
    const auto& row = *made.row;
    REQUIRE(one.teacher);
    CHECK(one.teacher->name == file);
    CHECK_THAT(one.teacher->from, Contains("forever208/DDPM-IP"));
    CHECK(row.dataset->name == dataset);
    CHECK(row.teacher->plugin.name == "guided-diffusion");
    CHECK_FALSE(row.training);
    CHECK(row.diffusion == DiffusionConfig{"cosine", 1000, ""});
    CHECK(row.sample.integer("count") == 50000);
    CHECK(row.sample.text("respacing") == respacing);
    CHECK(row.sample.text("sampler") == "ancestral");
    CHECK(row.sample.flag("clip_denoised"));
    CHECK(row.evaluator.name == "inception");
    CHECK(row.evaluator.params.text("protocol") == "adm");
  }
  // The evaluator alone: the reference is the training set, which the teacher's row shares.
  const auto evaluators = {std::pair("cifar10-evaluator-fid", "test"),
                           {"cifar10-evaluator-is", "train"}};
  for (const auto& [id, split] : evaluators) {
    const auto& one = check(checks, id);
    const auto made = shipped(one);
    CHECK(made.row->dataset->params.text("split") == "train");
    CHECK(config::other_images(one, *made.row->dataset, registry()).params.text("split") == split);
    CHECK(made.row->evaluator.params.canonical() ==
          shipped(check(checks, "cifar10-teacher")).row->evaluator.params.canonical());
  }
}

TEST_CASE("checks: what the shipped ones cost is what their networks compute", "[unit][config]") {
  // Inception-v3 at 299 pixels: 5.7e9 multiplications with additions (torchvision's table of
  // models).
  constexpr double kInception = 2 * 5.7e9, kSamples = 50000;
  run::CostModel cost(registry(), 1e-12);  // one operation a second
  const auto& unet = registry().find("student", "adm-unet");
  const auto forward = [&](const std::string& preset, std::int64_t side) {
    return cost.forward_s(
        {unet.kind, unet.name, unet.version, Params(unet.params, {{"preset", preset}})},
        {{3, side, side}, {"cosine", 1000, ""}});
  };
  const double small = forward("57M-CNN", 32), large = forward("295M-CNN", 64);
  const std::vector<std::pair<std::string, double>> wanted{
      {"cifar10-evaluator-fid", kInception * (50000 + 10000)},
      {"cifar10-evaluator-is", kInception * (50000 + 50000)},
      {"cifar10-teacher", kSamples * 50 * small + kInception * (kSamples + 50000)},
      {"cifar10-ddpm-ip", kSamples * 100 * small + kInception * (kSamples + 50000)},
      {"imagenet32-teacher", kSamples * 50 * small + kInception * (kSamples + 1281167)},
      {"celeba64-teacher", kSamples * 50 * large + kInception * (kSamples + 202599)}};
  const auto checks = teachers();
  for (const auto& [id, flops] : wanted) {
    INFO(id);
    CHECK(check(checks, id).flops == Approx(flops).epsilon(0.1));
  }
}
