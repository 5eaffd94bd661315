// The commands that need no training, through the real program: answers, formats, exit codes.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>

#include "e2e/program.hpp"

namespace {

using e2e::Output;
using e2e::Program;
using nlohmann::json;

std::vector<std::string> lines_of(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// One complaint: a single line on stderr that begins with the program's name; nothing on stdout.
void check_complaint(const Output& output, int exit_code, const std::string& names) {
  INFO("stderr: " << output.err);
  CHECK(output.exit_code == exit_code);
  CHECK(output.out.empty());
  CHECK(lines_of(output.err).size() == 1);
  CHECK(output.err.starts_with("dkdm: "));
  CHECK(contains(output.err, names));
}

// The element of a JSON listing whose `key` is `value`; an empty object where there is none.
json entry(const std::string& text, const std::string& key, const std::string& value) {
  for (const json& element : json::parse(text)) {
    if (element.at(key) == value) return element;
  }
  return json::object();
}

}  // namespace

TEST_CASE("cli: help lists every command and each command has its own", "[e2e][cli]") {
  const Program dkdm;
  const Output help = dkdm.run({"--help"});
  CHECK(help.exit_code == 0);
  CHECK(dkdm.run({}).out == help.out);
  for (const std::string command :
       {"quickstart", "run", "plan", "reproduce", "report", "watch", "runs", "query", "sample",
        "checkpoint", "plugins", "data", "db", "doctor"}) {
    INFO(command);
    CHECK(contains(help.out, "\n  " + command + " "));
    const Output own = dkdm.run({command, "--help"});
    CHECK(own.exit_code == 0);
    CHECK(own.out.starts_with("usage: dkdm " + command));
  }
  CHECK(dkdm.run({"help", "runs"}).out == dkdm.run({"runs", "--help"}).out);
}

TEST_CASE("cli: a wrong command or option is a usage error that names the nearest", "[e2e][cli]") {
  const Program dkdm;
  check_complaint(dkdm.run({"pluginz"}), 2, "did you mean plugins?");
  check_complaint(dkdm.run({"doctor", "--fromat", "csv"}), 2, "did you mean --format?");
  check_complaint(dkdm.run({"plugins", "--format", "yaml"}), 2, "markdown");
  check_complaint(dkdm.run({"plugins", "describe", "adm-unit"}), 2, "did you mean adm-unet?");
  check_complaint(dkdm.run({"runs", "show", "first"}), 2, "'first'");
  check_complaint(dkdm.run({"report", "--against", "a", "--plots", "b"}), 2, "at a time");
  check_complaint(dkdm.run({"db", "chekc"}), 2, "check");
  check_complaint(dkdm.run({"db", "merge", "/absent.sqlite"}), 3, "/absent.sqlite: no such file");
  // An abbreviation is not an option: it would change its meaning when options are added.
  check_complaint(dkdm.run({"doctor", "--form", "csv"}), 2, "--form");
}

TEST_CASE("cli: every number is checked with the name of its option and its range", "[e2e][cli]") {
  const Program dkdm;
  const std::string huge = "99999999999999999999999";
  for (const std::vector<std::string>& args :
       {std::vector<std::string>{"sample", huge},
        {"checkpoint", "export", huge, "x.pt"},
        {"eval", huge, "fashion-mnist", "--evaluator", "classifier"},
        {"runs", "show", huge},
        {"runs", "export", huge}}) {
    INFO(args[0]);
    check_complaint(dkdm.run(args), 2,
                    "run number: expected a whole number, 1 or more, got '" + huge);
  }
  check_complaint(dkdm.run({"sample", "1", "-n", huge}), 2,
                  "--count: expected a whole number from 1 to");
  check_complaint(dkdm.run({"sample", "1", "--count", "-1"}), 2, "--count: ");
  check_complaint(dkdm.run({"sample", "1", "--eta", "1.5"}), 2,
                  "--eta: expected a number from 0 to 1");
  check_complaint(dkdm.run({"sample", "1", "--seed", "1x"}), 2, "--seed: ");
  check_complaint(dkdm.run({"report", "--tolerance", "nan"}), 2, "--tolerance: ");
  check_complaint(dkdm.run({"plan", "desk/quickstart", "--shard", "5/4"}), 2, "--shard I/N: I: ");
  check_complaint(dkdm.run({"plan", "desk/quickstart", "--shard", "1/" + huge}), 2,
                  "--shard I/N: N: ");
  check_complaint(dkdm.run({"plan", "desk/quickstart", "--seeds", "0-" + huge}), 2, "--seeds");
  check_complaint(dkdm.run({"watch", "--interval", "0"}), 2,
                  "--interval: expected a whole number from 1");
}

TEST_CASE("cli: a misspelt experiment, action or dataset is answered with the nearest",
          "[e2e][cli]") {
  const Program dkdm;
  check_complaint(dkdm.run({"plan", "desk/quikstart"}), 2, "did you mean desk/quickstart?");
  check_complaint(dkdm.run({"plan", "quickstart.toml"}), 2, "did you mean desk/quickstart?");
  check_complaint(dkdm.run({"run", "nothing-of-the-kind-at-all"}), 2, "shipped ones are ");
  check_complaint(dkdm.run({"runs", "shwo", "1"}), 2, "did you mean show?");
  check_complaint(dkdm.run({"plugins", "descibe", "x"}), 2, "did you mean describe?");
  check_complaint(dkdm.run({"checkpoint", "exprot", "1", "x.pt"}), 2, "did you mean export?");
  check_complaint(dkdm.run({"ref", "inspct"}), 2, "did you mean inspect?");
  check_complaint(dkdm.run({"ref", "make", "cifar-10", "--evaluator", "classifier"}), 2,
                  "did you mean cifar10?");
  check_complaint(dkdm.run({"eval", "a", "b", "--evaluator", "incepton"}), 2, "inception");
}

TEST_CASE(
    "cli: an experiment on a shipped one is printed whole, and plans the same stages as what was printed",
    "[e2e][cli]") {
  const Program dkdm;
  const std::string mine =
      dkdm.write("mine.toml",
                 "base = \"desk/quickstart.toml\"\n[experiment]\nname = \"mine\"\n"
                 "rows = [\"dynamic\", \"teacher\"]\n[train]\nsteps = 3\n");
  const auto resolved =
      dkdm.run({"plan", mine, "--resolved", "--rows", "dynamic", "--set", "train.lr=1e-3"});
  REQUIRE(resolved.exit_code == 0);
  CHECK(contains(resolved.out, "steps = 3                  # " + mine + ":6:9"));
  CHECK(contains(resolved.out, "lr = 0.001                 # --set train.lr"));
  CHECK(contains(resolved.out, "batch = 64                 # "));
  CHECK(contains(resolved.out, "desk/bases/fashion_mnist_16.toml:"));
  CHECK(!contains(resolved.out, "id = \"teacher\""));
  const auto keys = [&](const std::vector<std::string>& args) {
    const auto plan = dkdm.run(args);
    REQUIRE(plan.exit_code == 0);
    std::vector<std::string> keys;
    for (const auto& line : lines_of(plan.out)) keys.push_back(line.substr(line.rfind(',') + 1));
    return keys;
  };
  const auto own =
      keys({"plan", mine, "--rows", "dynamic", "--set", "train.lr=1e-3", "--format", "csv"});
  CHECK(own.size() > 5);
  CHECK(keys({"plan", dkdm.write("again.toml", resolved.out), "--format", "csv"}) == own);
  check_complaint(dkdm.run({"plan", mine, "--resolved", "--format", "json"}), 2,
                  "--resolved prints whole experiments");
  check_complaint(dkdm.run({"plan", dkdm.write("lost.toml", "base = \"desk/quikstart.toml\"\n")}),
                  2, "lost.toml:1:8: base: no such file \"desk/quikstart.toml\"; looked for ");
  for (const auto& line : lines_of(dkdm.run({"plan", "no-such"}).err))
    CHECK(!contains(line, "bases"));
}

TEST_CASE("cli: a paper's experiment is planned without data and weights, and refuses to run so",
          "[e2e][cli]") {
  const Program dkdm;
  const std::vector<std::string> nowhere{"paper/table2_cifar10", "--rows", "teacher,dynamic",
                                         "--set", "dataset.root=" + (dkdm.home() / "no").string()};
  const auto with = [&](std::vector<std::string> words, const std::vector<std::string>& more) {
    words.insert(words.end(), nowhere.begin(), nowhere.end());
    words.insert(words.end(), more.begin(), more.end());
    return dkdm.run(words);
  };
  ::unsetenv("DKDM_INCEPTION_WEIGHTS");
  const Output text = with({"plan"}, {"--tflops", "100"});
  INFO(text.err);
  REQUIRE(text.exit_code == 0);
  CHECK(text.err.empty());
  CHECK(contains(text.out, "Needs: these files are absent"));
  for (const char* part :
       {"dataset cifar10", "cifar-10-binary.tar.gz", "teacher guided-diffusion", "57M-CNN",
        "evaluator inception", "pt_inception-2015-12-05-6726825d.pth", "needs files", "629 MB"}) {
    INFO(part);
    CHECK(contains(text.out, part));
  }
  const Output listing = with({"plan"}, {"--tflops", "100", "--format", "json"});
  REQUIRE(listing.exit_code == 0);
  int absent = 0;
  for (const json& stage : json::parse(listing.out)) {
    INFO(stage.dump());
    CHECK(stage.at("key").is_null());
    absent += stage.at("state") == "absent";
    if (stage.at("state") == "absent") continue;
    CHECK(stage.at("state") == "needs files");
    CHECK(stage.at("estimate").is_number());
  }
  CHECK(absent == 3);
  const json pool = entry(listing.out, "stage", "prepare dynamic");
  CHECK(pool.at("disk") == 51200.0 * 3 * 32 * 32 * 4);  // rows of float32
  CHECK(pool.at("memory") > pool.at("disk"));
  const Output run = with({"run"}, {});
  check_complaint(run, 3, "teacher guided-diffusion (teacher, dynamic) needs path is not set");
  CHECK(contains(run.err, "dataset cifar10"));
  CHECK(contains(run.err, "evaluator inception"));
  CHECK(!e2e::fs::exists(dkdm.home() / "results.sqlite"));
}

TEST_CASE("cli: text fits COLUMNS, a pipe without it gets whole lines", "[e2e][cli]") {
  const Program dkdm;
  const auto widest = [&](const std::vector<std::string>& args) {
    int columns = 0;
    for (const auto& line : lines_of(dkdm.run(args).out)) {
      const auto characters =
          std::count_if(line.begin(), line.end(), [](char c) { return (c & 0xc0) != 0x80; });
      columns = std::max(columns, static_cast<int>(characters));
    }
    return columns;
  };
  CHECK(widest({"plugins"}) > 100);
  ::setenv("COLUMNS", "72", 1);
  CHECK(widest({"plugins"}) <= 72);
  CHECK(widest({"doctor"}) <= 72);
  ::unsetenv("COLUMNS");
}

TEST_CASE("cli: watch without a terminal prints once, and changes nothing", "[e2e][cli]") {
  const Program dkdm;
  check_complaint(dkdm.run({"watch"}), 3, "no results yet");
  check_complaint(dkdm.run({"watch", "--format", "json"}), 3, "no results yet");
  CHECK(!e2e::fs::exists(dkdm.home() / "results.sqlite"));
}

TEST_CASE("cli: plugins lists what the experiments name, in four formats", "[e2e][cli]") {
  const Program dkdm;
  const Output listing = dkdm.run({"plugins", "--format", "json"});
  CHECK(listing.exit_code == 0);
  CHECK(listing.err.empty());  // nothing was refused
  const json plugins = json::parse(listing.out);
  const std::vector<std::pair<std::string, std::string>> shipped{
      {"student", "adm-unet"},      {"student", "dit"},
      {"student", "unet-lite"},     {"student", "uvit"},
      {"student", "edm-unet"},      {"student", "mlp-mixer"},
      {"teacher", "checkpoint"},    {"dataset", "cifar10"},
      {"dataset", "fashion-mnist"}, {"baseline", "data-based"},
      {"baseline", "data-free"},    {"baseline", "data-limited"},
      {"distillation", "dynamic"},  {"distillation", "iterative"},
      {"distillation", "shuffled"}, {"evaluator", "classifier"},
      {"evaluator", "inception"},   {"autoencoder", "vq-f4"}};
  for (const auto& [kind, name] : shipped) {
    INFO(kind << " " << name);
    CHECK(entry(listing.out, "name", name).value("kind", "") == kind);
  }
  const Output csv = dkdm.run({"plugins", "--format", "csv"});
  CHECK(lines_of(csv.out).size() == plugins.size() + 1);  // a header
  CHECK(lines_of(csv.out)[0] == "kind,name,version,parameters,from,summary\r");
  const auto markdown = lines_of(dkdm.run({"plugins", "--format", "markdown"}).out);
  CHECK(markdown.size() == plugins.size() + 2);  // a header and its rule
  CHECK(std::all_of(markdown.begin(), markdown.end(), [](const std::string& line) {
    return line.starts_with("|") && line.ends_with("|");
  }));
  CHECK(contains(dkdm.run({"plugins"}).out, "adm-unet"));
}

TEST_CASE("cli: describe shows every parameter, the size, and lines to paste", "[e2e][cli]") {
  const Program dkdm;
  const Output text = dkdm.run({"plugins", "describe", "adm-unet"});
  CHECK(text.exit_code == 0);
  CHECK(contains(text.out, "[student]\nplugin = \"adm-unet\"\n"));
  CHECK(contains(text.out, " weights at the defaults, "));
  CHECK(contains(text.out, " GFLOPs a forward, 3x32x32 images"));
  const Output listing = dkdm.run({"plugins", "describe", "adm-unet", "--format", "json"});
  const json table = json::parse(listing.out);
  REQUIRE(!table.empty());
  for (const json& parameter : table) {
    INFO(parameter.dump());
    CHECK(!parameter.at("help").get<std::string>().empty());
    // The snippet has each at its default.
    CHECK(contains(text.out, "\n" + parameter.at("parameter").get<std::string>() + " = "));
  }
  CHECK(contains(dkdm.run({"plugins", "describe", "dynamic"}).out,
                 "[[row]]\nid = \"dynamic\"\n[row.method]\nplugin = \"dynamic\"\n"));
}

TEST_CASE("cli: data list says what is present and how to get the rest", "[e2e][cli]") {
  const Program dkdm;
  const Output output = dkdm.run({"data", "list", "--format", "json"});
  CHECK(output.exit_code == 0);
  const json fashion = entry(output.out, "dataset", "fashion-mnist");
  REQUIRE(!fashion.empty());
  CHECK(fashion.at("state") == "present");  // Debian's package, which the launcher installs
  CHECK(fashion.at("images") == 60000);     // the training set of Xiao et al. 2017
  CHECK(fashion.at("classes") == 10);
  for (const json& set : json::parse(output.out)) {
    INFO(set.dump());
    CHECK(!set.at("note").get<std::string>().empty());
    CHECK((set.at("state") == "present") == set.at("images").is_number());
  }
}

TEST_CASE("cli: data prepare reads every image, hashes them and names those that are broken",
          "[e2e][cli]") {
  const Program dkdm;
  const auto prepared = dkdm.run({"data", "prepare", "fashion-mnist", "--format", "json"});
  REQUIRE(prepared.exit_code == 0);
  const json set = entry(prepared.out, "dataset", "fashion-mnist");
  CHECK(set.at("images") == 60000);
  CHECK(set.at("shape") == "1x16x16");
  // numpy 2.4.6 and hashlib: the 2 x 2 means (s + 2) // 4 of the padded images, in order.
  CHECK(set.at("pixels") ==
        "sha256:d80b33965a4d6d22912865a0019141433a01bbe65b4ec7578a792b030b857a1f");

  const auto root = dkdm.home() / "images";
  std::filesystem::create_directories(root);
  for (int i = 10; i < 23; ++i) dkdm.write("images/" + std::to_string(i) + ".png", "no");
  const auto broken =
      dkdm.run({"data", "prepare", "image-folder", "--set", "root=" + root.string()});
  INFO(broken.err);
  CHECK(broken.exit_code == 3);
  CHECK(broken.out.empty());
  CHECK(contains(broken.err, "10.png"));
  CHECK(contains(broken.err, "19.png"));
  CHECK_FALSE(contains(broken.err, "20.png"));
  CHECK(contains(broken.err,
                 "image-folder: 13 of 13 images cannot be used; the first ten are named above"));
  check_complaint(dkdm.run({"data", "prepare"}), 2, "name a dataset");
  check_complaint(dkdm.run({"data", "prepare", "fashion-mnits"}), 2, "did you mean");
}

TEST_CASE("cli: doctor finds this machine fit and says where things are", "[e2e][cli]") {
  const Program dkdm;
  const Output output = dkdm.run({"doctor", "--format", "json"});
  CHECK(output.exit_code == 0);
  CHECK(entry(output.out, "item", "plugins").value("state", "") == "ok");
  CHECK(contains(entry(output.out, "item", "store").value("what", ""), dkdm.home().string()));
  CHECK(contains(entry(output.out, "item", "database").value("what", ""), "none yet"));
  const json weights = entry(output.out, "item", "weights inception");
  CHECK(weights.value("state", "") == "note");  // the suite runs without
  CHECK(contains(weights.value("what", ""), (dkdm.home() / "weights").string()));
}

TEST_CASE("cli: doctor ends with 3 when the database cannot be read", "[e2e][cli]") {
  const Program dkdm;
  dkdm.write("results.sqlite", std::string(4096, 'x'));
  const Output output = dkdm.run({"doctor", "--format", "json"});
  CHECK(output.exit_code == 3);
  const json database = entry(output.out, "item", "database");
  CHECK(database.value("state", "") == "missing");
  CHECK(contains(database.value("what", ""), "results.sqlite"));
}

TEST_CASE("cli: the schema and example queries need no database", "[e2e][cli]") {
  const Program dkdm;
  const Output page = dkdm.run({"db", "schema", "--format", "markdown"});
  CHECK(page.out == e2e::read_file(DKDM_SOURCE_DIR "/results/schema.md"));
  CHECK(contains(dkdm.run({"db", "schema"}).out, "CREATE VIEW table2 AS"));
  const Output examples = dkdm.run({"query", "--examples"});
  CHECK(contains(examples.out, "dkdm query \"SELECT"));
  CHECK(json::parse(dkdm.run({"query", "--examples", "--format", "json"}).out).size() > 13);
}

TEST_CASE("cli: what computes lets its waiting threads sleep soon, unless they were told otherwise",
          "[e2e][cli]") {
  const Program dkdm;
  const auto spin_counts = [&](const std::string& environment) {
    const auto file = dkdm.home() / "openmp";
    // OpenMP's library says on stderr what it was loaded with, each time that it is.
    const std::string command = "env -u GOMP_SPINCOUNT OMP_DISPLAY_ENV=VERBOSE " + environment +
                                " " DKDM_BUILD_DIR "/dkdm plan --help >/dev/null 2>" +
                                file.string();
    REQUIRE(std::system(command.c_str()) == 0);
    std::istringstream lines(e2e::read_file(file));
    std::vector<std::string> counts;
    for (std::string line; std::getline(lines, line);)
      if (contains(line, "GOMP_SPINCOUNT")) counts.push_back(line);
    return counts;
  };
  const auto settled = spin_counts("");
  REQUIRE(settled.size() == 2);  // the program started again
  CHECK(contains(settled[1], "'20000'"));
  const auto told = spin_counts("GOMP_SPINCOUNT=7");
  REQUIRE(told.size() == 1);
  CHECK(contains(told[0], "'7'"));
  CHECK(spin_counts("OMP_WAIT_POLICY=passive").size() == 1);
}

TEST_CASE("cli: commands on results say that there are none yet", "[e2e][cli]") {
  const Program dkdm;
  for (const std::vector<std::string>& args : {std::vector<std::string>{"query", "SELECT 1"},
                                               {"runs"},
                                               {"runs", "show", "1"},
                                               {"report"},
                                               {"db", "info"},
                                               {"db", "check"},
                                               {"db", "gc"},
                                               {"runs", "export", "1"}}) {
    INFO(args[0]);
    check_complaint(dkdm.run(args), 3, "no results yet");
  }
  CHECK(!e2e::fs::exists(dkdm.home() / "results.sqlite"));  // asking makes nothing
}
