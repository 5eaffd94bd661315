// Experiment files: inheritance between sections, overrides, and the place of every error. The
// student, dataset and evaluator are fixtures; teacher and methods are the real ones.
#include <unistd.h>

#include <catch2/catch.hpp>

#include <filesystem>
#include <fstream>
#include <set>

#include "config/experiment.hpp"
#include "config/snippet.hpp"
#include "fixtures/experiments.hpp"
#include "stages/determinants.hpp"

using namespace dkdm;
using Catch::Matchers::Contains;
using Catch::Matchers::EndsWith;
using config::Experiment;
namespace fs = std::filesystem;

namespace {

const char* const kSmall = R"([experiment]
name = "small"
[dataset]
plugin = "fixture-images"
[teacher]
plugin = "checkpoint"
[teacher.student]
plugin = "fixture-student"
width = 16
[teacher.method]
plugin = "data-based"
[teacher.train]
steps = 7
[student]
plugin = "fixture-student"
width = 4
[train]
steps = 5
lr = 1
[sample]
count = 10
[evaluator]
plugin = "fixture-metric"
[[row]]
id = "teacher"
teacher = true
[[row]]
id = "dynamic"
label = "Dynamic"
method = { plugin = "dynamic", rho = 0.5 }
student = { dropout = 0.0 }
train = { lr = 0.25 }
sample = { count = 20 }
)";

const plugin::Registry& registry() { return fixtures::all_plugins(); }

const fs::path& file() {
  static const fs::path path =
      fs::temp_directory_path() / ("dkdm-experiment-" + std::to_string(::getpid()) + ".toml");
  return path;
}

Experiment load(const std::string& text, const std::vector<std::string>& overrides = {}) {
  std::ofstream(file()) << text;
  struct Removed {
    ~Removed() { fs::remove(file()); }
  } removed;
  return config::load_experiment({file(), overrides, {}}, registry());
}

// kSmall with the first `from` replaced.
std::string edited(const std::string& from, const std::string& to) {
  std::string text = kSmall;
  const auto at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

std::string error(const std::string& text, const std::vector<std::string>& overrides = {}) {
  return fixtures::config_error([&] { load(text, overrides); });
}

std::string place(int line, int column) {
  return file().string() + ":" + std::to_string(line) + ":" + std::to_string(column) + ": ";
}

}  // namespace

TEST_CASE("experiment: [diffusion] says how v is read, and the resolved text repeats it",
          "[unit][config]") {
  CHECK(load(kSmall).rows[0].diffusion.variance_range == "centred");
  const Experiment e = load(kSmall, {"diffusion.variance_range=unit"});
  CHECK(e.rows[0].diffusion == DiffusionConfig{.variance_range = "unit"});
  CHECK(e.resolved.find("variance_range = \"unit\"") != std::string::npos);
  CHECK(error(kSmall, {"diffusion.variance_range=half"}).find("centred") != std::string::npos);
}

TEST_CASE("experiment: paper scale refuses fewer samples than the published values are of",
          "[unit][config]") {
  CHECK(load(kSmall).samples == 50000);  // the paper's, section 4.1
  CHECK_THAT(error(kSmall, {"experiment.scale=paper"}),
             Contains("row \"teacher\": sample.count = 10") && Contains("50000 images"));
  CHECK_THAT(error(kSmall, {"experiment.scale=paper", "experiment.samples=15"}),
             Contains("row \"teacher\": sample.count = 10") && Contains("15 images"));
  CHECK(load(kSmall, {"experiment.scale=paper", "experiment.samples=10"}).samples == 10);
}

TEST_CASE(
    "experiment: evaluation on the way is off unless asked for, and the resolved text repeats it",
    "[unit][config]") {
  CHECK(load(kSmall).rows[0].evaluate.integer("every") == 0);
  const Experiment e = load(kSmall, {"evaluate.every=2", "sample.save=true"});
  CHECK(e.rows[0].evaluate.integer("every") == 2);
  CHECK(e.rows[1].sample.flag("save"));
  const Experiment again = load(e.resolved);
  CHECK(again.rows[0].evaluate.integer("every") == 2);
  CHECK(again.resolved == e.resolved);
  CHECK_THAT(error(kSmall, {"evaluate.every=-1"}), Contains("every"));
  CHECK_THAT(error(kSmall, {"evaluate.evry=1"}), Contains("did you mean \"every\""));
}

TEST_CASE("experiment: rows complete the shared sections with their own", "[unit][config]") {
  const Experiment e = load(kSmall);
  CHECK(e.title == "small");
  CHECK(e.scale == "desk");
  CHECK(e.seeds == std::vector<std::int64_t>{0});
  CHECK(e.rows[0].diffusion == DiffusionConfig{"cosine", 1000, ""});
  CHECK(e.rows[1].synthetic.integer("count") == 0);
  REQUIRE(e.rows.size() == 2);

  const config::Row& teacher = e.rows[0];
  CHECK_FALSE(teacher.training);
  CHECK(teacher.label == "teacher");
  CHECK(teacher.sample.integer("count") == 10);
  REQUIRE(e.rows[0].teacher->training);
  CHECK(e.rows[0].teacher->training->student.params.integer("width") == 16);
  CHECK(e.rows[0].teacher->training->train.integer("steps") == 7);
  CHECK(e.rows[0].teacher->training->train.real("lr") == 1.0);

  const config::Row& dynamic = e.rows[1];
  REQUIRE(dynamic.training);
  CHECK(dynamic.published == "dynamic");
  CHECK(dynamic.training->method.kind == "distillation");
  CHECK(dynamic.training->method.params.real("rho") == 0.5);
  CHECK(dynamic.training->student.params.integer("width") == 4);
  CHECK(dynamic.training->student.params.real("dropout") == 0.0);
  CHECK(dynamic.training->train.integer("steps") == 5);
  CHECK(dynamic.training->train.real("lr") == 0.25);
  CHECK(dynamic.sample.integer("count") == 20);
  CHECK(dynamic.sample.text("respacing") == "50");
}

TEST_CASE("experiment: another plugin replaces the default student whole", "[unit][config]") {
  const Experiment same =
      load(edited("{ dropout = 0.0 }", "{ plugin = \"fixture-student\", dropout = 0.0 }"));
  CHECK(same.rows[1].training->student.params.integer("width") == 4);
  const Experiment other =
      load(edited("{ dropout = 0.0 }", "{ plugin = \"fixture-throwing\", how = \"data\" }"));
  CHECK(other.rows[1].training->student.params.values().size() == 1);
  // The file's [student] has a width, which the other plugin does not know.
  const Experiment overridden =
      load(edited("{ dropout = 0.0 }", "{}"), {"student.plugin=fixture-throwing"});
  CHECK(overridden.rows[1].training->student.name == "fixture-throwing");
}

TEST_CASE("experiment: the resolved text loads to an equal experiment", "[unit][config]") {
  const Experiment first =
      load(kSmall, {"experiment.seeds=[3,1]", "experiment.title=a \"quoted\" title"});
  const Experiment again = load(first.resolved);
  CHECK(again.resolved == first.resolved);
  CHECK(again.title == "a \"quoted\" title");
  CHECK(again.seeds == std::vector<std::int64_t>{3, 1});
  CHECK(again.rows[1].label == "Dynamic");
  CHECK(again.rows[1].training->train.canonical() == first.rows[1].training->train.canonical());
  CHECK(again.rows[1].training->student.params.canonical() ==
        first.rows[1].training->student.params.canonical());
  CHECK(again.rows[0].teacher->training->student.params.canonical() ==
        first.rows[0].teacher->training->student.params.canonical());
  CHECK(load(kSmall, {"row.dynamic.train.lr=0.5"}).resolved != load(kSmall).resolved);
}

TEST_CASE("experiment: overrides reach every section and any row", "[unit][config]") {
  const Experiment e =
      load(kSmall, {"train.steps=100", "row.dynamic.train.lr=1e-3", "sample.respacing=10",
                    "sample.sampler=ddim", "diffusion.schedule=linear",
                    "student={ plugin = \"fixture-student\", width = 9 }"});
  CHECK(e.rows[1].training->train.integer("steps") == 100);
  CHECK(e.rows[0].teacher->training->train.integer("steps") == 7);
  CHECK(e.rows[1].training->train.real("lr") == 1e-3);
  CHECK(e.rows[0].sample.text("respacing") == "10");  // typed as a number, meant as text
  CHECK(e.rows[0].sample.text("sampler") == "ddim");
  CHECK(e.rows[0].diffusion.schedule == "linear");
  CHECK(e.rows[1].training->student.params.integer("width") == 9);
}

TEST_CASE("experiment: a wrong override is named by its key", "[unit][config]") {
  CHECK(error(kSmall, {"train.stpes=100"}) ==
        "--set train.stpes: unknown key \"stpes\" in [train], did you mean \"steps\"?");
  CHECK(error(kSmall, {"train.lr=fast"}) == "--set train.lr: lr: expected real, got text \"fast\"");
  CHECK_THAT(error(kSmall, {"row.dynamc.train.lr=1"}), Contains("did you mean \"dynamic\"?"));
  CHECK_THAT(error(kSmall, {"experiment.name.x=1"}), Contains("\"name\" is a value"));
  CHECK_THAT(error(kSmall, {"experiment.seeds=[1,"}), Contains("--set experiment.seeds: "));
  CHECK_THAT(error(kSmall, {"row.dynamic=1"}), Contains("expected row.ID.KEY=VALUE"));
  for (const char* text : {"steps", "=5", "train..steps=5", "train.=5"}) {
    CHECK_THAT(error(kSmall, {text}), EndsWith("expected KEY=VALUE, as in train.steps=100"));
  }
}

TEST_CASE("experiment: errors in the file have line, column and the nearest name",
          "[unit][config]") {
  CHECK_THAT(error(edited("name = ", "name ")), Contains(place(2, 6)));
  CHECK(error(edited("lr = 1\n", "lrr = 1\n")) ==
        place(19, 1) + "unknown key \"lrr\" in [train], did you mean \"lr\"?");
  CHECK(error(edited("[sample]", "[smaple]")) ==
        place(20, 2) + "unknown key \"smaple\" in the file, did you mean \"sample\"?");
  CHECK(error(edited("rho", "roh")) ==
        place(30, 32) +
            "unknown key \"roh\" in row \"dynamic\" method (dynamic), did you mean "
            "\"rho\"?");
  CHECK(error(edited("rho = 0.5", "rho = true")) ==
        place(30, 38) + "rho: expected real, got boolean true");
  CHECK_THAT(error(edited("\"dynamic\", rho", "\"dynamics\", rho")),
             Contains(place(30, 21) + "unknown method \"dynamics\", did you mean \"dynamic\"?"));
  CHECK_THAT(error(edited("steps = 5", "steps = 0")), Contains(place(18, 9) + "steps: expected"));
  CHECK_THAT(error(edited("steps = 5\n", "")), Contains("steps must be given"));
  CHECK_THAT(error(edited("count = 10", "respacing = \"2000\"\ncount = 10")),
             Contains(place(21, 13)) && Contains("2000"));
  CHECK_THAT(error(edited("count = 10",
                          "sampler = \"ddim\"\nsteps_offset = 1\nrespacing = \"50\"\ncount = 10")),
             Contains(place(23, 13)) && Contains("steps_offset is 1 with respacing \"50\""));
  CHECK_THAT(error(edited("\"small\"", "\"Small!\"")), Contains("Small!"));
  CHECK_THAT(error(edited("\"small\"", "1979-05-27")), Contains(place(2, 8)) && Contains("date"));
  CHECK_THAT(error(edited("[evaluator]\nplugin = \"fixture-metric\"\n", "")),
             Contains("[evaluator] is missing"));
}

TEST_CASE("experiment: impossible rows are refused where they stand", "[unit][config]") {
  CHECK(error(edited("id = \"dynamic\"", "id = \"teacher\"")) ==
        place(28, 6) + "row id \"teacher\" is used twice, first at " + file().string() + ":25:6");
  CHECK(error(edited("teacher = true", "teacher = true\nmethod = { plugin = \"dynamic\" }")) ==
        place(27, 1) + "row \"teacher\": teacher = true and method exclude each other; remove one");
  CHECK_THAT(error(edited("teacher = true\n", "")),
             Contains(place(24, 1) + "row \"teacher\": expected method"));
  const std::string text = kSmall;
  CHECK_THAT(error(text.substr(0, text.find("[[row]]"))), Contains("at least one [[row]]"));
  CHECK_THAT(error(edited("[experiment]", "[experiment]\nseeds = [1, 1]")),
             Contains(place(2, 9) + "seeds"));
}

TEST_CASE("experiment: a rule that chooses among evaluated steps needs a metric, and steps",
          "[unit][config]") {
  const auto selecting = [](const std::string& train, const std::string& evaluate) {
    return edited("lr = 1\n[sample]", "lr = 1\n" + train + "[evaluate]\n" + evaluate + "[sample]");
  };
  const std::string best = "select = \"best:fid\"\n", every = "every = 2\n";
  const auto row = [](const Experiment& experiment) { return experiment.rows.at(1); };
  const auto chosen = load(selecting(best, every));
  CHECK(config::selecting_metric(row(chosen).training->train) == "fid");
  // A teacher that is trained here has no evaluations to choose among.
  CHECK(config::selecting_metric(row(chosen).teacher->training->train).empty());
  CHECK(config::selecting_metric(row(load(kSmall)).training->train).empty());

  CHECK_THAT(
      error(selecting(best, "")),
      Contains(":20:10: row \"dynamic\" train: select = \"best:fid\" chooses among evaluated "
               "steps, and there is only the last: evaluate.every = 0 of train.steps = 5; "
               "expected [evaluate] every = 1 to 4"));
  CHECK_THAT(error(selecting(best, "every = 5\n")), Contains("there is only the last"));
  for (const char* rule : {"best", "best:", "best:FID", "first", "best:fid,is"})
    CHECK_THAT(error(selecting("select = \"" + std::string(rule) + "\"\n", every)),
               Contains("select = \"" + std::string(rule) +
                        "\", expected last, or best: and a metric of the evaluator, such as "
                        "best:fid"));
  CHECK_THAT(error(selecting("", "samples = \"other\"\n")),
             Contains("nothing is evaluated on the way; expected every"));
  CHECK_THAT(error(edited("steps = 7\n", "steps = 7\n" + best)),
             Contains(":14:1: [teacher] train: select is of rows"));
}

TEST_CASE("experiment: a file that is not there is missing data", "[unit][config]") {
  try {
    config::load_experiment({"nowhere/none.toml", {}, {}}, registry());
    FAIL("loaded");
  } catch (const DataError& e) {
    CHECK_THAT(e.what(), Contains("nowhere/none.toml: no such experiment file"));
    CHECK(e.exit_code() == ExitCode::missing);
  }
}

TEST_CASE("experiment: seeds are single, a range or a list", "[unit][config]") {
  using Seeds = std::vector<std::int64_t>;
  CHECK(config::parse_seeds("0") == Seeds{0});
  CHECK(config::parse_seeds("0-2") == Seeds{0, 1, 2});
  CHECK(config::parse_seeds("1,4,7-8") == Seeds{1, 4, 7, 8});
  for (const char* text : {"", "a", "1,", "-1", "3-1", "1,1", "1 2", "0-99999999999",
                           "9223372036854775807", "99999999999999999999999", "1-", ",", "0-2,1"}) {
    CHECK_THROWS_WITH(config::parse_seeds(text), Contains('"' + std::string(text) + '"'));
  }
}

TEST_CASE("experiment: every shipped experiment file loads", "[unit][config]") {
  int files = 0;
  for (const auto& entry :
       fs::recursive_directory_iterator(fs::path(DKDM_SOURCE_DIR) / "experiments")) {
    const auto folder = entry.path().parent_path().filename();
    if (entry.path().extension() != ".toml" || folder == "bases" || folder == "reproduce") continue;
    INFO(entry.path());
    CHECK_NOTHROW(config::load_experiment({entry.path(), {}, {}}, registry()));
    ++files;
  }
  CHECK(files >= 5);
}

TEST_CASE(
    "experiment: a plugin's paths are relative to the file, an override's to the working folder, ~/ is "
    "the home folder",
    "[unit][config]") {
  const auto path = [](const Experiment& e) {
    return fs::path(e.rows[0].teacher->plugin.params.text("path"));
  };
  const fs::path folder = file().parent_path();
  const std::string text = edited("[teacher]\nplugin = \"checkpoint\"",
                                  "[teacher]\nplugin = \"checkpoint\"\npath = \"runs/../x\"");
  CHECK(path(load(text)) == folder / "x");
  CHECK(path(load(load(text).resolved)) == folder / "x");
  CHECK(path(load(text, {"teacher.path=y"})) == fs::current_path() / "y");
  CHECK(path(load(text, {"teacher.path=/z"})) == "/z");
  const char* home = std::getenv("HOME");
  REQUIRE(home);
  CHECK(path(load(text, {"teacher.path=~/y"})) == fs::path(home) / "y");
  CHECK(path(load(text, {"teacher.path=~other/y"})) == fs::current_path() / "~other/y");
  CHECK(load(kSmall).rows[0].teacher->plugin.params.text("path").empty());
  // A network that its evaluator knows by name is no file, unless there is one.
  const auto weights = [](const Experiment& e) {
    return e.rows[0].evaluator.params.text("weights");
  };
  const std::string named =
      edited("[evaluator]\nplugin = \"fixture-metric\"",
             "[evaluator]\nplugin = \"classifier\"\nweights = \"fashion-mnist-16\"");
  CHECK(weights(load(named)) == "fashion-mnist-16");
  CHECK(weights(load(named, {"evaluator.weights=train"})) == "train");
  CHECK(fs::path(weights(load(named, {"evaluator.weights=w/train"}))).is_absolute());
  std::ofstream(folder / "fashion-mnist-16") << "a weight file";
  CHECK(weights(load(named)) == folder / "fashion-mnist-16");
  fs::remove(folder / "fashion-mnist-16");
  // Keys do not know where a file lies.
  CHECK(stages::describe(load(text).rows[0].teacher->plugin) ==
        stages::describe(load(kSmall).rows[0].teacher->plugin));
}

TEST_CASE("experiment: plugin files are relative to the file, an override's to the working folder",
          "[unit][config]") {
  const std::string text =
      edited("[experiment]", "[experiment]\nplugins = [\"build/a.so\", \"/b\"]");
  const fs::path folder = file().parent_path();
  const Experiment e = load(text);
  const std::vector<std::string> absolute{(folder / "build/a.so").string(), "/b"};
  CHECK(e.plugins == absolute);
  CHECK(load(e.resolved).plugins == absolute);  // the recorded text repeats the run from anywhere
  CHECK(load(text, {"experiment.plugins=[\"here.so\"]"}).plugins ==
        std::vector<std::string>{(fs::current_path() / "here.so").string()});
  CHECK(load(kSmall).plugins.empty());

  std::ofstream(file()) << text;
  const auto named = config::named_plugins({file(), {}, {}});
  fs::remove(file());
  REQUIRE(named.size() == 2);
  CHECK(named[0].path == absolute[0]);
  CHECK(named[0].where == place(2, 11).substr(0, place(2, 11).size() - 2));
  CHECK_THAT(error(edited("[experiment]", "[experiment]\nplugins = \"a.so\"")),
             Contains("expected list of texts"));
}

TEST_CASE("experiment: what describe prints of any plugin is accepted as it is", "[unit][config]") {
  const std::vector<std::pair<std::string, std::string>> sections{
      {"dataset", "[dataset]\nplugin = \"fixture-images\"\n"},
      {"teacher", "[teacher]\nplugin = \"checkpoint\"\n"},
      {"student", "[student]\nplugin = \"fixture-student\"\n"},
      {"evaluator", "[evaluator]\nplugin = \"fixture-metric\"\n"}};
  std::set<std::string> kinds;
  for (const plugin::PluginInfo& info : registry().plugins()) {
    INFO(info.name);
    const std::string snippet = config::experiment_snippet(info);
    std::string text =
        "[experiment]\nname = \"pasted\"\n[train]\nsteps = 5\n[sample]\ncount = 10\n";
    for (const auto& [kind, section] : sections) text += kind == info.kind ? snippet : section;
    text += "[[row]]\nid = \"first\"\nmethod = { plugin = \"dynamic\" }\n";
    if (info.kind == "baseline" || info.kind == "distillation") text += snippet;
    INFO(text);
    CHECK_NOTHROW(load(text));
    kinds.insert(info.kind);
  }
  CHECK(kinds.size() == 7);
}
