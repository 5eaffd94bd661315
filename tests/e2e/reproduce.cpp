// dkdm reproduce through the real program: checks of a tiny experiment whose results are known.
// Evaluators that count images and average their pixels give them in closed form.
#include <ATen/ATen.h>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "dkdm/checkpoint.hpp"
#include "dkdm/io.hpp"
#include "e2e/fixture_experiment.hpp"
#include "e2e/program.hpp"
#include "fixtures/inception.hpp"
#include "fixtures/teachers.hpp"

namespace {

using Catch::Matchers::Contains;
using e2e::Output;
using e2e::Program;
using nlohmann::json;
namespace fs = std::filesystem;
namespace io = dkdm::io;

constexpr int kPixel = 7;  // of the images of other.npz, 8 x 8 of them

std::string experiment(const std::string& name, const std::string& evaluator) {
  return "[experiment]\nname = \"" + name + R"toml("
[dataset]
plugin = "npz"
file = "images.npz"
[diffusion]
schedule = "linear"
[teacher]
plugin = "guided-diffusion"
[sample]
count = 8
respacing = "2"
[evaluator]
)toml" + evaluator +
         R"toml(
[[row]]
id = "teacher"
teacher = true
)toml";
}

const std::string kChecks = R"toml(title = "Tiny"
tolerance = { mean = 0.01 }
[teacher.tiny]
file = "tiny.pt"
from = "the fixtures of the tests"
[[check]]
id = "tiny-evaluator"
label = "The mean of grey images"
experiment = "mean.toml"
row = "teacher"
images = { file = "other.npz" }
expected = { mean = 7 }
flops = 3e14
[[check]]
id = "tiny-teacher"
experiment = "count.toml"
row = "teacher"
teacher = "tiny"
expected = { count = 8.5 }
tolerance = { count = 0.5 }
source = "a closed form"
)toml";

// Reference images, others that are grey, an experiment that counts and one that averages, and
// checks of both. The teacher is not there yet.
class Bench : public Program {
 public:
  Bench() {
    write_images("images.npz", 0, 4);
    write_images("other.npz", kPixel, 6);
    write("count.toml", experiment("counted", "plugin = \"fixture-metric\""));
    write("mean.toml", experiment("averaged", "plugin = \"fixture-faulty-evaluator\""));
    write("checks.toml", kChecks);
  }

  void write_images(const std::string& name, int pixel, std::int64_t count) const {
    io::write_npz(home() / name, {{"arr_0", at::full({count, 8, 8, 3}, pixel, at::kByte)}});
  }

  void write_teacher(const fs::path& file) const {
    fs::create_directories(file.parent_path());
    io::NamedTensors weights;
    // Small enough that the variance of two sampling steps stays finite.
    for (const auto& [name, tensor] :
         dkdm::fixtures::filled_weights({{"depth", std::int64_t{1}},
                                         {"hidden_size", std::int64_t{32}},
                                         {"num_heads", std::int64_t{1}},
                                         {"patch_size", std::int64_t{4}}},
                                        {3, 8, 8}, "dit"))
      weights.emplace_back(name, tensor * 0.5);
    io::write_torch(file, weights);
  }
  void put_teacher() const { write_teacher(home() / "weights/tiny.pt"); }

  // kChecks with `more` after it.
  Output reproduce(std::vector<std::string> args, const std::string& more = "") const {
    const auto file = write("checks.toml", kChecks + more);
    args.insert(args.begin(), {"reproduce", file.string()});
    return run(args);
  }

  std::int64_t recorded(const std::string& what) const {
    const Output said = run({"query", "SELECT count(*) AS n FROM " + what, "--format", "json"});
    INFO(said.err);
    return json::parse(said.out).at(0).at("n");
  }
};

json of_check(const json& rows, const std::string& id, const std::string& key = "check") {
  for (const auto& row : rows)
    if (row.at(key) == id) return row;
  FAIL("no " << id << " in " << rows.dump(1));
  return {};
}

json values(const Output& said) {
  INFO(said.err);
  return json::parse(said.out);
}

std::string to_string(const json& number) { return std::to_string(number.get<std::int64_t>()); }

const std::string kFailing = R"toml(
[[check]]
id = "tiny-failing"
experiment = "failing.toml"
row = "teacher"
teacher = "tiny"
expected = { mean = 7 }
)toml";

}  // namespace

TEST_CASE("reproduce: what agrees ends with 0, is on record and is never made twice",
          "[e2e][reproduce]") {
  const e2e::WithFixtures fixtures;
  const Bench bench;
  bench.put_teacher();
  const Output said = bench.reproduce({"--format", "json"});
  CHECK(said.exit_code == 0);
  const json rows = values(said);
  REQUIRE(rows.size() == 2);
  const json mean = of_check(rows, "tiny-evaluator"), count = of_check(rows, "tiny-teacher");
  CHECK(mean.at("metric") == "mean");
  CHECK(mean.at("expected") == 7);
  CHECK(mean.at("ours") == kPixel);  // every pixel is
  CHECK(mean.at("difference") == 0);
  CHECK(mean.at("tolerance") == 0.01);
  CHECK(mean.at("verdict") == "agrees");
  CHECK(mean.at("samples") == 6);
  CHECK(mean.at("seed").is_null());
  CHECK(mean.at("source") == "the paper");
  CHECK(mean.at("protocol") == "mean");
  CHECK(count.at("ours") == 8);  // samples that were drawn
  CHECK(count.at("difference") == -0.5);
  CHECK(count.at("verdict") == "agrees");  // at the edge
  CHECK(count.at("seed") == 0);
  CHECK(count.at("source") == "a closed form");
  CHECK_THAT(said.err, Contains("agrees 2"));

  CHECK(bench.recorded("runs") == 2);
  CHECK(values(bench.reproduce({"--format", "json"})) == rows);
  CHECK(bench.recorded("attempts") == 2);
  // The same runs as by hand, and no request: reports show what a person asked for.
  CHECK(bench.recorded("requests") == 0);
  const Output by_hand = bench.run({"run", (bench.home() / "count.toml").string(), "--set",
                                    "teacher.path=" + (bench.home() / "weights/tiny.pt").string()});
  INFO(by_hand.err);
  CHECK(by_hand.exit_code == 0);
  CHECK(bench.recorded("attempts") == 2);
  const auto run = mean.at("run").get<std::int64_t>();
  CHECK_THAT(bench.run({"runs", "show", std::to_string(run)}).out,
             Contains("dkdm eval npz:file=" + (bench.home() / "other.npz").string()));
  const Output sound = bench.run({"db", "check"});
  INFO(sound.out);
  CHECK(sound.exit_code == 0);
}

TEST_CASE("reproduce: a difference beyond the tolerance ends with 1 and is told from the rest",
          "[e2e][reproduce]") {
  const e2e::WithFixtures fixtures;
  const Bench bench;
  bench.put_teacher();
  const std::string more = R"toml(
[[check]]
id = "tiny-off"
experiment = "count.toml"
row = "teacher"
teacher = "tiny"
expected = { count = 9, fid = 1 }
tolerance = { count = 0.5, fid = 100 }
)toml";
  const Output said = bench.reproduce({"--format", "json"}, more);
  CHECK(said.exit_code == 1);
  const json rows = values(said);
  REQUIRE(rows.size() == 4);
  CHECK(rows[2].at("metric") == "count");
  CHECK(rows[2].at("verdict") == "differs");
  CHECK(rows[2].at("difference") == -1);
  // What the evaluator does not give has failed, whatever the tolerance.
  CHECK(rows[3].at("verdict") == "failed");
  CHECK(rows[3].at("ours").is_null());
  CHECK_THAT(rows[3].at("note").get<std::string>(), Contains("gives no fid; it gives count"));
  CHECK(of_check(rows, "tiny-evaluator").at("verdict") == "agrees");
  CHECK_THAT(said.err, Contains("agrees 2, differs 1, failed 1"));

  CHECK(bench.reproduce({"--only", "tiny-evaluator,tiny-teacher"}, more).exit_code == 0);
  const Output unknown = bench.reproduce({"--set", "tiny-evaluator.dataset.flie=x.npz"}, more);
  CHECK(unknown.exit_code == 2);
  CHECK_THAT(unknown.err, Contains("--set dataset.flie") && Contains("did you mean \"file\"?"));
  const Output none = bench.reproduce({"--only", "tyni"}, more);
  CHECK(none.exit_code == 2);
  CHECK_THAT(none.err, Contains("no 'tyni'"));
}

TEST_CASE("reproduce: a missing file stops its own checks alone and says where to get it",
          "[e2e][reproduce]") {
  const e2e::WithFixtures fixtures;
  const Bench bench;
  const Output said = bench.reproduce({"--format", "json"});
  CHECK(said.exit_code == 1);
  const json rows = values(said);
  CHECK(of_check(rows, "tiny-evaluator").at("verdict") == "agrees");
  const json missing = of_check(rows, "tiny-teacher");
  CHECK(missing.at("verdict") == "needs files");
  CHECK(missing.at("expected") == 8.5);
  CHECK(missing.at("ours").is_null());
  CHECK(missing.at("run").is_null());
  CHECK_THAT(missing.at("note").get<std::string>(),
             Contains((bench.home() / "weights/tiny.pt").string() + ": no such file") &&
                 Contains("get tiny.pt from the fixtures of the tests") &&
                 Contains("--set tiny-teacher.teacher.path="));
  CHECK(bench.recorded("runs") == 1);

  const Output text = bench.reproduce({});
  CHECK(text.exit_code == 1);
  CHECK_THAT(text.out, Contains("teacher tiny.pt") && Contains("missing") &&
                           Contains("get tiny.pt from") && Contains("see Files"));

  // Another place, of this check alone.
  bench.write_teacher(bench.home() / "elsewhere/renamed.pt");
  const std::string place = (bench.home() / "elsewhere/renamed.pt").string();
  const Output named =
      bench.reproduce({"--set", "tiny-teacher.teacher.path=" + place, "--format", "markdown"});
  INFO(named.err);
  CHECK(named.exit_code == 0);
  CHECK_THAT(named.out, Contains(place) && Contains("| agrees"));

  // A file that is no network is there, and is told only when it is opened.
  const Output damaged = bench.reproduce(
      {"--set", "tiny-teacher.teacher.path=" + (bench.home() / "count.toml").string()});
  CHECK(damaged.exit_code == 1);
  CHECK_THAT(damaged.out, !Contains("names another place") && !Contains("see Files"));
  CHECK_THAT(damaged.out, Contains("failed   " + (bench.home() / "count.toml").string()));

  // The dataset is the other checks': nothing can be run.
  fs::remove(bench.home() / "images.npz");
  bench.put_teacher();
  const Output neither = bench.reproduce({"--format", "json"});
  CHECK(neither.exit_code == 1);
  for (const auto& row : values(neither)) {
    CHECK(row.at("verdict") == "needs files");
    CHECK_THAT(row.at("note").get<std::string>(), Contains("images.npz"));
  }
}

TEST_CASE("reproduce: an evaluator that fails, or gives no number, has failed and the rest goes on",
          "[e2e][reproduce]") {
  const e2e::WithFixtures fixtures;
  const Bench bench;
  bench.put_teacher();
  const std::string faulty = "plugin = \"fixture-faulty-evaluator\"\nfault = \"not finite\"";
  bench.write("failing.toml", experiment("failing", faulty));
  const std::string images = R"toml(
[[check]]
id = "tiny-nan"
experiment = "failing.toml"
row = "teacher"
images = {}
expected = { mean = 7 }
)toml";
  const Output said = bench.reproduce({"--format", "json"}, kFailing + images);
  CHECK(said.exit_code == 1);
  const json rows = values(said);
  REQUIRE(rows.size() == 4);
  CHECK(of_check(rows, "tiny-evaluator").at("verdict") == "agrees");
  CHECK(of_check(rows, "tiny-teacher").at("verdict") == "agrees");
  for (const char* id : {"tiny-failing", "tiny-nan"}) {
    INFO(id);
    const json failed = of_check(rows, id);
    CHECK(failed.at("verdict") == "failed");
    CHECK(failed.at("ours").is_null());
    CHECK_THAT(failed.at("note").get<std::string>(), Contains("finite"));
  }
  CHECK_THAT(said.err, Contains("agrees 2, failed 2"));

  // The first that does not agree ends it, on demand.
  const Output stopped = bench.reproduce(
      {"--fail-fast", "--format", "json", "--only", "tiny-failing,tiny-nan"}, kFailing + images);
  CHECK(stopped.exit_code == 1);
  CHECK(of_check(values(stopped), "tiny-failing").at("verdict") == "failed");
  CHECK(of_check(values(stopped), "tiny-nan").at("verdict") == "not run");
}

TEST_CASE("reproduce: without values of its own a check expects the paper's", "[e2e][reproduce]") {
  const e2e::WithFixtures fixtures;
  const Bench bench;
  bench.put_teacher();
  std::string text = experiment("published", "plugin = \"fixture-metric\"");
  bench.write("published.toml",
              text.insert(text.find("[dataset]"), "published = \"table2.cifar10\"\n"));
  const std::string more = R"toml(
[[check]]
id = "paper"
experiment = "published.toml"
row = "teacher"
teacher = "tiny"
tolerance = { fid = 0.1, is = 0.1, sfid = 0.15 }
)toml";
  const Output said = bench.reproduce({"--only", "paper", "--format", "json"}, more);
  CHECK(said.exit_code == 1);
  std::map<std::string, double> expected;
  for (const auto& row : values(said)) {
    CHECK(row.at("verdict") == "failed");  // the evaluator only counts
    expected[row.at("metric")] = row.at("expected");
  }
  CHECK(expected == std::map<std::string, double>{{"fid", 4.45}, {"is", 9.52}, {"sfid", 7.09}});
  const Output unstated = bench.reproduce({"--only", "paper"},
                                          "[[check]]\nid = \"paper\"\nexperiment = \"count.toml\"\n"
                                          "row = \"teacher\"\n");
  CHECK(unstated.exit_code == 2);
  CHECK_THAT(unstated.err, Contains("checks.toml:") && Contains("no published values"));
  const Output no_row = bench.reproduce(
      {}, "[[check]]\nid = \"paper\"\nexperiment = \"count.toml\"\nrow = \"teachr\"\n");
  CHECK(no_row.exit_code == 2);
  CHECK_THAT(no_row.err, Contains("did you mean \"teacher\"?"));
}

TEST_CASE("reproduce: Inception alone and a teacher, against images or against their statistics",
          "[e2e][reproduce]") {
  const Bench bench;
  bench.put_teacher();
  const auto state = dkdm::fixtures::inception_state();
  io::save_tensors(bench.home() / "inception.safetensors", {state.begin(), state.end()});
  const at::Tensor images = dkdm::fixtures::inception_images({6, 3, 8, 8});
  io::write_npz(bench.home() / "images.npz",
                {{"arr_0", images.permute({0, 2, 3, 1}).contiguous()}});
  bench.write(
      "count.toml",
      experiment("inception", "plugin = \"inception\"\nweights = \"inception.safetensors\""));
  const auto reproduce = [&](double fid, const std::vector<std::string>& more) {
    const auto file = bench.write("inception-checks.toml", R"toml(
tolerance = { fid = 1e-3 }
[teacher.tiny]
file = "tiny.pt"
from = "the fixtures of the tests"
[[check]]
id = "itself"
experiment = "count.toml"
row = "teacher"
images = {}
expected = { fid = 0 }
[[check]]
id = "sampled"
experiment = "count.toml"
row = "teacher"
teacher = "tiny"
expected = { fid = )toml" + std::to_string(fid) + " }\n");
    std::vector<std::string> args{"reproduce", file.string(), "--format", "json"};
    args.insert(args.end(), more.begin(), more.end());
    return bench.run(args);
  };
  const Output first = reproduce(-1, {});
  CHECK(first.exit_code == 1);
  const json itself = of_check(values(first), "itself"),
             sampled = of_check(values(first), "sampled");
  CHECK(itself.at("verdict") == "agrees");  // of a set to itself the distance is 0
  CHECK_THAT(itself.at("protocol").get<std::string>(), Catch::StartsWith("unpublished-"));
  CHECK(sampled.at("verdict") == "differs");
  const double fid = sampled.at("ours");
  REQUIRE(fid > 0.1);  // far from 0 at the tolerance below
  // Only what is compared is computed of images; a row's run has all of its metrics.
  CHECK(bench.recorded("metrics WHERE run = " + to_string(itself.at("run"))) == 1);
  CHECK(bench.recorded("metrics WHERE run = " + to_string(sampled.at("run"))) == 5);

  const auto statistics = (bench.home() / "statistics.npz").string();
  const Output made = bench.run(
      {"ref", "make", "npz:file=" + (bench.home() / "images.npz").string(), "-o", statistics,
       "--set", "weights=" + (bench.home() / "inception.safetensors").string()});
  INFO(made.err);
  REQUIRE(made.exit_code == 0);
  fs::remove(bench.home() / "images.npz");
  const Output without = reproduce(fid, {"--set", "reference.statistics=" + statistics});
  CHECK(without.exit_code == 1);
  CHECK(of_check(values(without), "itself").at("verdict") == "needs files");
  CHECK(of_check(values(without), "sampled").at("verdict") == "agrees");
  CHECK(reproduce(fid, {"--only", "sampled", "--set", "reference.statistics=" + statistics})
            .exit_code == 0);
  // Nothing is expected of weights that are not there.
  fs::remove(bench.home() / "inception.safetensors");
  const Output blind =
      reproduce(fid, {"--only", "sampled", "--set", "reference.statistics=" + statistics});
  CHECK(blind.exit_code == 1);
  const json row = of_check(values(blind), "sampled");
  CHECK(row.at("verdict") == "needs files");
  CHECK_THAT(row.at("note").get<std::string>(),
             Contains("--set sampled.evaluator.weights=") && Contains("pytorch-fid"));
}

TEST_CASE("reproduce: the list shows needs and costs and runs nothing", "[e2e][reproduce]") {
  const e2e::WithFixtures fixtures;
  const Bench bench;
  const Output said = bench.reproduce({"--list", "--format", "json"});
  CHECK(said.exit_code == 0);
  const json rows = values(said);
  REQUIRE(rows.size() == 2);
  const json mean = of_check(rows, "tiny-evaluator"), count = of_check(rows, "tiny-teacher");
  CHECK(mean.at("what") == "The mean of grey images");
  CHECK(mean.at("expected") == "mean 7 ± 0.01");
  CHECK(mean.at("state") == "ready");
  CHECK(mean.at("needs") == "");
  CHECK(mean.at("seconds") == 3);  // at 100 TFLOP/s
  CHECK(count.at("state") == "needs files");
  CHECK(count.at("seconds").is_null());
  CHECK(count.at("experiment") == "counted");
  CHECK_THAT(count.at("needs").get<std::string>(), Contains("tiny.pt"));
  CHECK_FALSE(fs::exists(bench.home() / "results.sqlite"));
  const json slower = values(bench.reproduce({"--list", "--format", "json", "--tflops", "10"}));
  CHECK(slower.at(0).at("seconds") == 30);
  CHECK_THAT(bench.reproduce({"--list"}).out,
             Contains("Files") && Contains("Tiny") && Contains("at 100 TFLOP/s"));
}

TEST_CASE("reproduce: without a name it lists what there is; wrong words name the nearest",
          "[e2e][reproduce]") {
  const Program dkdm;
  const Output listed = dkdm.run({"reproduce", "--format", "json"});
  CHECK(listed.exit_code == 0);
  const json teachers = of_check(values(listed), "teachers", "name");
  CHECK(teachers.at("checks") == 6);
  const Output wrong = dkdm.run({"reproduce", "techers"});
  CHECK(wrong.exit_code == 2);
  CHECK_THAT(wrong.err, Contains("did you mean teachers?"));
  CHECK(dkdm.run({"reproduce", "--only", "x"}).exit_code == 2);
  // Files of checks are no experiments.
  const Output no_experiment = dkdm.run({"run", "reproduce/techers"});
  CHECK(no_experiment.exit_code == 2);
  CHECK_THAT(no_experiment.err, !Contains("did you mean reproduce/"));

  const Output shipped = dkdm.run({"reproduce", "teachers", "--list", "--format", "json"});
  CHECK(shipped.exit_code == 0);
  const json rows = values(shipped);
  CHECK(rows.size() == 6);
  const std::string needs = of_check(rows, "celeba64-teacher").at("needs");
  CHECK_THAT(needs, Contains((dkdm.home() / "weights/DDPM_IP_celeba64.pt").string()) &&
                        Contains("forever208/DDPM-IP") && Contains("img_align_celeba.zip") &&
                        Contains("pt_inception-2015-12-05-6726825d.pth"));
}
