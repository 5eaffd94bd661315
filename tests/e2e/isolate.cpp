// Crashes inside plugins, through the real program: with isolation a crash is a failed run or a
// failed check that names plugin, stage and signal, and everything else goes on.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "e2e/fixture_experiment.hpp"
#include "e2e/program.hpp"

namespace {

using e2e::kFixtures;
using e2e::Output;
using e2e::Program;
using e2e::WithFixtures;
using nlohmann::json;
namespace fs = std::filesystem;

const std::string kExperiment =
    e2e::fixture_experiment("name = \"crashes\"\nisolate = true", R"toml(
[[row]]
id = "before"
method = { plugin = "data-based" }
[[row]]
id = "segfault"
method = { plugin = "data-based" }
student = { plugin = "fixture-crashing-student", where = "training" }
[[row]]
id = "killed"
method = { plugin = "data-based" }
student = { plugin = "fixture-crashing-student", where = "training, killed" }
[[row]]
id = "constructor"
method = { plugin = "data-based" }
student = { plugin = "fixture-crashing-student", where = "constructor" }
[[row]]
id = "after"
method = { plugin = "data-based" }
student = { width = 16 }
)toml");

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// The runs' states by row.
std::map<std::string, json> states(const Program& program) {
  const auto output =
      program.run({"query", "SELECT row, status, stage, message FROM run_status ORDER BY run",
                   "--format", "json"});
  INFO(output.err);
  REQUIRE(output.exit_code == 0);
  std::map<std::string, json> found;
  for (const auto& run : json::parse(output.out)) found[run.at("row")] = run;
  return found;
}

std::string text(const json& run, const char* name) { return run.at(name).get<std::string>(); }

}  // namespace

TEST_CASE("isolate: a crash is a failed run that names plugin, stage and signal, the others go on",
          "[e2e][isolate]") {
  const WithFixtures fixtures;
  const Program program;
  const auto file = program.write("crashes.toml", kExperiment);
  const auto output = program.run({"run", file});
  INFO("stdout: " << output.out << "\nstderr: " << output.err);
  CHECK(output.exit_code == 1);
  CHECK(has(output.out, "before"));  // the table is printed all the same
  CHECK(has(output.out, "after.png"));

  auto runs = states(program);
  REQUIRE(runs.size() == 5);
  CHECK(text(runs["before"], "status") == "done");
  CHECK(text(runs["after"], "status") == "done");
  const auto check_failed = [&](const char* row, const char* stage,
                                const std::vector<std::string>& words) {
    INFO(runs[row].dump());
    CHECK(text(runs[row], "status") == "failed");
    CHECK(text(runs[row], "stage") == stage);
    for (const auto& word : words) CHECK(has(text(runs[row], "message"), word));
    CHECK(has(output.err, std::string("failed: ") + row + ", seed 0, " + stage));
  };
  check_failed("segfault", "train",
               {"fixture-crashing-student", "crashing-student.so", "segmentation fault (signal 11)",
                "dkdm plugins check"});
  check_failed("killed", "train", {"fixture-crashing-student", "killed (signal 9)", "memory"});
  check_failed("constructor", "plan", {"fixture-crashing-student", "aborted (signal 6)"});
  const auto first = output.err.find("of the initial weights in the EMA weights");
  REQUIRE(first != std::string::npos);  // of each row, once
  const auto said = [&](const std::string& part) {
    std::size_t count = 0;
    for (auto at = output.err.find(part); at != std::string::npos;
         at = output.err.find(part, at + 1))
      ++count;
    return count;
  };
  CHECK(said("row after: ema") == 1);
  CHECK(said("row before: ema") == 1);

  // The same command goes on: what is done stays, what failed is one more attempt of the same run.
  const auto again = program.run({"run", file});
  CHECK(again.exit_code == 1);
  CHECK(states(program).size() == 5);
  CHECK_FALSE(has(again.err, "train before"));
}

TEST_CASE("isolate: Ctrl-C stops the child at a safe point, and the same command continues",
          "[e2e][isolate]") {
  const WithFixtures fixtures;
  const Program program;
  const auto file = program.write("crashes.toml", kExperiment);
  const std::vector<std::string> command{"run",    file,    "--rows",
                                         "before", "--set", "train.steps=4000"};
  const auto training = [&] {
    std::error_code none;
    return fs::directory_iterator(program.home() / "work/train", none) != fs::directory_iterator();
  };
  const auto stopped = program.run_until(command, training, SIGINT);
  INFO(stopped.err);
  CHECK(stopped.exit_code == 130);
  CHECK(has(stopped.err, "stopping at the next safe point"));
  CHECK(text(states(program)["before"], "status") == "interrupted");
  const auto continued = program.run(command);
  INFO(continued.err);
  CHECK(continued.exit_code == 0);
  CHECK(has(continued.err, "continuing from step"));
  CHECK(text(states(program)["before"], "status") == "done");
}

TEST_CASE("isolate: one request to stop that comes as several signals is one", "[e2e][isolate]") {
  const WithFixtures fixtures;
  const Program program;
  const auto file = program.write("crashes.toml", kExperiment);
  const auto child =
      program.start({"run", file, "--rows", "before", "--set", "train.steps=100000"});
  for (int i = 0; i < 6000 && !fs::exists(program.home() / "work/train"); ++i) ::usleep(20'000);
  for (int i = 0; i < 2; ++i) {  // as timeout(1) does: the program, then its group
    ::kill(child, SIGTERM);
    ::usleep(20'000);
  }
  const auto stopped = program.wait(child);
  INFO(stopped.err);
  CHECK(stopped.exit_code == 130);
  CHECK(text(states(program)["before"], "status") == "interrupted");
}

TEST_CASE("isolate: without it, a crash ends the command, which says and records whose it was",
          "[e2e][isolate]") {
  const WithFixtures fixtures;
  const Program program;
  const auto file = program.write("crashes.toml", kExperiment);
  const auto output =
      program.run({"run", file, "--rows", "segfault,after", "--set", "experiment.isolate=false"});
  INFO(output.err);
  CHECK(output.exit_code == 1);
  CHECK(has(output.err,
            "failed: segfault, seed 0, train: plugin fixture-crashing-student (forward): "
            "crashed: segmentation fault (signal 11)"));
  CHECK(has(output.err, "--isolate"));
  auto runs = states(program);
  CHECK(text(runs["segfault"], "status") == "failed");
  CHECK(text(runs["segfault"], "stage") == "train");
  CHECK(has(text(runs["segfault"], "message"), "plugin fixture-crashing-student"));
  CHECK_FALSE(runs.contains("after"));
}

TEST_CASE("plugins check: a checklist, and the exit code says whether all passed",
          "[e2e][plugins]") {
  const WithFixtures fixtures;
  const Program program;
  const auto sound = program.run({"plugins", "check", kFixtures / "good-student.so"});
  INFO(sound.out << sound.err);
  CHECK(sound.exit_code == 0);
  CHECK(has(sound.out, "✓ gradient"));
  CHECK(has(sound.out, "adm-unet: "));  // its cost beside the yardstick's
  CHECK(has(sound.out, "All 18 checks passed."));

  const auto listing = program.run({"plugins", "check", "fixture-images", "--format", "json"});
  CHECK(listing.exit_code == 0);
  CHECK(json::parse(listing.out)[0].at("check") == "handshake");

  const auto broken =
      program.run({"plugins", "check", "fixture-faulty-dataset", "--set", "fault=label"});
  CHECK(broken.exit_code == 1);
  CHECK(has(broken.out, "✗ labels"));
  CHECK(has(broken.out, "1 of 9 checks failed."));

  const auto crash =
      program.run({"plugins", "check", "fixture-crashing-student", "--set", "where=forward"});
  INFO(crash.out << crash.err);
  CHECK(crash.exit_code == 1);
  CHECK(has(crash.out, "✗ evaluation mode"));
  CHECK(has(crash.out, "✗ gradient"));  // the others are made in another process
  CHECK(has(crash.out, "✓ save and load") == false);
  CHECK(has(crash.out, "✓ seed"));
  CHECK(has(crash.out, "segmentation fault (signal 11) in "));
  CHECK(has(crash.out, "crashing-student.so"));
  CHECK(has(crash.out, "where=forward --in-process"));  // what a debugger runs
  const auto debugged = program.run(
      {"plugins", "check", "fixture-crashing-student", "--set", "where=forward", "--in-process"});
  CHECK(debugged.exit_code == 128 + SIGSEGV);
  const auto in_process = program.run({"plugins", "check", "fixture-student", "--in-process"});
  CHECK(in_process.exit_code == 0);
  CHECK(has(in_process.out, "All 17 checks passed."));  // all but the costs
}

TEST_CASE("plugins check: Ctrl-C stops it after the check under way", "[e2e][plugins]") {
  const Program program;
  const auto under_way = [&] {
    return has(e2e::read_file(program.home() / "stdout"), "handshake");
  };
  const auto stopped = program.run_until({"plugins", "check", "adm-unet"}, under_way, SIGTERM);
  INFO(stopped.out << stopped.err);
  CHECK(stopped.exit_code == 130);
  CHECK(has(stopped.err, "stopping at the next safe point"));
  CHECK_FALSE(has(stopped.out, "checks passed"));
}

TEST_CASE("plugins check: what cannot be checked is said in one line", "[e2e][plugins]") {
  const WithFixtures fixtures;
  const Program program;
  const auto refused = program.run({"plugins", "check", kFixtures / "wrong-abi.so"});
  CHECK(refused.exit_code == 1);
  CHECK(has(refused.out, "✗ handshake"));
  CHECK(has(refused.out, "plugin ABI 999"));
  const auto dying = program.run({"plugins", "check", kFixtures / "crashing-initialiser.so"});
  CHECK(dying.exit_code == 1);
  CHECK(has(dying.out, "✗ handshake"));
  CHECK(has(dying.out, "ends its process when opened: aborted (signal 6)"));
  const auto unknown = program.run({"plugins", "check", "fixture-studnet"});
  CHECK(unknown.exit_code == 2);
  CHECK(has(unknown.err, "did you mean fixture-student?"));
  const auto absent = program.run({"plugins", "check", "nowhere/a.so"});
  CHECK(absent.exit_code == 2);
  CHECK(has(absent.err, "there is no file nowhere/a.so"));
  const auto required = program.run({"plugins", "check", "npz"});
  CHECK(required.exit_code == 2);
  CHECK(has(required.err, "--set file="));
  const auto missing = program.run({"plugins", "check", "npz", "--set", "file=/nowhere.npz"});
  CHECK(missing.exit_code == 3);
  CHECK(has(missing.err, "/nowhere.npz"));
}
