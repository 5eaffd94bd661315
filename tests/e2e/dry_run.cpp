// `dkdm run --dry-run`: every stage at its true sizes and next to no work, nothing left behind.
#include <catch2/catch.hpp>

#include "e2e/fixture_experiment.hpp"
#include "e2e/program.hpp"

namespace {

using Catch::Matchers::Contains;
using e2e::Output;
using e2e::Program;
using e2e::WithFixtures;
namespace fs = std::filesystem;

const std::string kRows = R"toml(
[[row]]
id = "teacher"
teacher = true
[[row]]
id = "based"
method = { plugin = "data-based" }
[[row]]
id = "limited"
method = { plugin = "data-limited", fraction = 0.2 }
[[row]]
id = "free"
method = { plugin = "data-free" }
[[row]]
id = "dynamic"
method = { plugin = "dynamic" }
)toml";

std::string desk(const std::string& rows = kRows) {
  return e2e::fixture_experiment("name = \"rehearsed\"\nseeds = [3, 4]", rows);
}

// The line of the table that begins with `stage`; "" where there is none.
std::string line_of(const Output& output, const std::string& stage) {
  std::istringstream lines(output.out);
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with(stage + "  ")) return line;
  return "";
}

std::string result_of(const Output& output, const std::string& stage) {
  const std::string line = line_of(output, stage);
  if (line.empty()) return "";
  const auto start = line.find_first_not_of(' ', stage.size());
  return line.substr(start, line.find("  ", start) - start);
}

// What a program left in its home, but for what a test put there.
std::vector<std::string> left_in(const Program& program) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(program.home())) {
    const auto name = entry.path().filename().string();
    if (name != "stdout" && name != "stderr" && entry.path().extension() != ".toml")
      names.push_back(name);
  }
  return names;
}

}  // namespace

TEST_CASE("dry run: every stage of an experiment is made, and nothing of it stays",
          "[e2e][dry_run]") {
  const WithFixtures fixtures;
  const Program program;
  const auto file = program.write("desk.toml", desk());
  const Output output =
      program.run({"run", file, "--dry-run", "--set", "train.steps=1000000", "--set",
                   "sample.count=50000", "--set", "evaluate.every=1000"});
  INFO(output.out << output.err);
  REQUIRE(output.exit_code == 0);
  for (const char* stage :
       {"prepare the evaluator", "train the teacher", "sample and evaluate teacher", "train based",
        "sample and evaluate based", "evaluate based as it trained", "draw the synthetic set",
        "train limited", "train free", "prepare dynamic", "train dynamic",
        "sample and evaluate dynamic", "evaluate dynamic as it trained"}) {
    INFO(stage);
    CHECK(result_of(output, stage) == "ok");
  }
  CHECK_THAT(output.out, Contains("nothing is recorded") && Contains("Cut down: 2 training steps"));
  CHECK(left_in(program).empty());
}

TEST_CASE("dry run: random images and weights take the place of files that are absent",
          "[e2e][dry_run]") {
  const Program program;
  ::unsetenv("DKDM_INCEPTION_WEIGHTS");
  const auto file = program.write("absent.toml", R"toml([experiment]
name = "absent"
[dataset]
plugin = "cifar10"
root = "nowhere"
[teacher]
plugin = "guided-diffusion"
path = "nowhere.pt"
network = "14M-CNN"
[student]
plugin = "dit"
depth = 1
hidden_size = 32
num_heads = 1
patch_size = 8
[train]
steps = 200000
batch = 128
[synthetic]
respacing = "100"
[sample]
count = 50000
[evaluator]
plugin = "inception"
)toml" + kRows);
  const Output output =
      program.run({"run", file, "--dry-run", "--set", "row.dynamic.method.rho=0.01"});
  INFO(output.out << output.err);
  CHECK(output.exit_code == 0);
  for (const char* stage :
       {"training batch of 128 of dit", "sample teacher", "train based", "draw the synthetic set",
        "train limited", "train free", "prepare dynamic", "train dynamic", "sample dynamic"}) {
    INFO(stage);
    CHECK(result_of(output, stage) == "ok");
  }
  for (const char* stage : {"prepare the evaluator", "sample and evaluate dynamic"})
    CHECK(result_of(output, stage) == "left out");
  CHECK_THAT(output.out, Contains("dataset cifar10 (" + (program.home() / "nowhere").string() +
                                  "): random images") &&
                             Contains("teacher guided-diffusion") && Contains("random weights") &&
                             Contains("evaluations are left out"));
  CHECK(left_in(program).empty());
}

TEST_CASE("dry run: a fault is found at its stage, and does not hide the other stages",
          "[e2e][dry_run]") {
  const WithFixtures fixtures;
  const Program program;
  const auto file = program.write(
      "faulty.toml", desk(kRows + "[[row]]\nid = \"faulty\"\nmethod = { plugin = "
                                  "\"fixture-faulty-method\", fault = \"infinite\" }\n"));
  const Output output =
      program.run({"run", file, "--dry-run", "--rows", "faulty,based", "--set", "dataset.size=8"});
  INFO(output.out << output.err);
  CHECK(output.exit_code == 1);
  CHECK(result_of(output, "train faulty") == "failed");
  CHECK_THAT(line_of(output, "train faulty"), Contains("not finite at step 0"));
  CHECK(result_of(output, "sample and evaluate faulty") == "not reached");
  CHECK(result_of(output, "sample and evaluate based") == "ok");
  CHECK(left_in(program).empty());

  // What ends its process is a line of the table too.
  const Output crashed =
      program.run({"run", file, "--dry-run", "--rows", "based", "--set",
                   "student.plugin=fixture-crashing-student", "--set", "student.where=training"});
  INFO(crashed.out << crashed.err);
  CHECK(crashed.exit_code == 1);
  CHECK(result_of(crashed, "train based") == "failed");
  CHECK_THAT(line_of(crashed, "train based"), Contains("fixture-crashing-student"));
  CHECK(left_in(program).empty());

  // What a run is refused for is refused here, in the same words.
  const Output refused = program.run({"run", file, "--dry-run", "--set", "train.stepz=3"});
  CHECK(refused.exit_code == 2);
  CHECK_THAT(refused.err, Contains("did you mean"));
  CHECK(left_in(program).empty());
}

TEST_CASE("dry run: a network that takes only small batches is found by the shapes of the true one",
          "[e2e][dry_run]") {
  const WithFixtures fixtures;
  const Program program;
  const auto file = program.write("batch.toml", desk());
  std::vector<std::string> command{"run",
                                   file,
                                   "--dry-run",
                                   "--rows",
                                   "based",
                                   "--set",
                                   "student.plugin=fixture-small-batches",
                                   "--set",
                                   "sample.batch=4"};
  const Output fits = program.run(command);
  INFO(fits.out << fits.err);
  CHECK(fits.exit_code == 0);
  auto larger = command;
  larger.insert(larger.end(), {"--set", "train.batch=5"});
  const Output output = program.run(larger);
  INFO(output.out << output.err);
  CHECK(output.exit_code == 1);
  CHECK_THAT(line_of(output, "training batch of 5 of fixture-small-batches"),
             Contains("failed") && Contains("a batch of 5"));
  command.back() = "sample.batch=5";
  CHECK(result_of(program.run(command), "sampling batch of 5 of fixture-small-batches") ==
        "failed");
}

TEST_CASE("dry run: a paper's experiment, with its own networks and no files", "[e2e][dry_run]") {
  const Program program;
  ::unsetenv("DKDM_INCEPTION_WEIGHTS");
  const Output output =
      program.run({"run", "paper/table2_cifar10", "--dry-run", "--rows", "data_based,dynamic",
                   "--set", "dataset.root=" + (program.home() / "no").string()});
  INFO(output.out << output.err);
  CHECK(output.exit_code == 0);
  for (const char* stage :
       {"training batch of 128 of adm-unet", "sampling batch of 2500 of adm-unet",
        "train data_based", "prepare dynamic", "train dynamic", "sample dynamic"}) {
    INFO(stage);
    CHECK(result_of(output, stage) == "ok");
  }
  CHECK(left_in(program).empty());
}
