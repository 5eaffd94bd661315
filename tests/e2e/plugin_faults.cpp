// Plugins that end the process, hang, stop, or change what belongs to the host, through the real
// program: nothing is reported done that is not, nothing waits for ever, and no other row changes.
#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <map>
#include <nlohmann/json.hpp>

#include "e2e/fixture_experiment.hpp"
#include "e2e/program.hpp"

namespace {

using e2e::kFixtures;
using e2e::Output;
using e2e::Program;
using e2e::With;
using e2e::WithFixtures;
using nlohmann::json;
namespace fs = std::filesystem;

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::vector<std::string> complaints(const Output& output) {
  std::vector<std::string> found;
  std::istringstream lines(output.err);
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with("dkdm: ") || line.starts_with("failed: ")) found.push_back(line);
  return found;
}

std::string row(const std::string& id, const std::string& student) {
  return "[[row]]\nid = \"" + id + "\"\nmethod = { plugin = \"data-based\" }\nstudent = { " +
         student + " }\n";
}

// Content of every trained network below a home, by its key.
std::map<std::string, std::string> trained(const fs::path& home) {
  std::map<std::string, std::string> weights;
  for (const auto& artifact : fs::directory_iterator(home / "artifacts/train"))
    weights[artifact.path().filename()] = e2e::read_file(artifact.path() / "raw.safetensors");
  return weights;
}

}  // namespace

TEST_CASE("plugin faults: a student that ends the process is no success, and its run has failed",
          "[e2e][plugins]") {
  const WithFixtures fixtures;
  const auto how = GENERATE(as<std::string>{}, "exit", "_exit", "quick_exit", "exit_group",
                            "terminate", "throw");
  const auto where = GENERATE(as<std::string>{}, "constructor", "training");
  INFO(how << " in " << where);
  const Program program;
  const auto file = program.write(
      "ending.toml",
      e2e::fixture_experiment("name = \"ending\"",
                              row("ending", "plugin = \"fixture-ending-student\", how = \"" + how +
                                                "\", where = \"" + where + "\"")));
  const auto output = program.run({"run", file});
  INFO("stdout: " << output.out << "\nstderr: " << output.err);
  CHECK(output.exit_code != 0);
  CHECK(output.exit_code < 128);
  REQUIRE(complaints(output).size() == 1);
  const auto line = complaints(output)[0];
  CHECK(has(line, "fixture-ending-student"));
  CHECK(has(line, where == "constructor" ? "create" : "forward"));
  if (how == "throw") CHECK(has(line, "not a std::exception"));
  if (how == "terminate") CHECK(has(line, "aborted (signal 6)"));
  if (how.ends_with("exit")) CHECK(has(line, "ended the process (exit code 0)"));
  if (where == "constructor") return;  // planned, not begun
  const auto states = json::parse(
      program.run({"query", "SELECT status, stage, message FROM run_status", "--format", "json"})
          .out);
  REQUIRE(states.size() == 1);
  CHECK(states[0].at("status") == "failed");
  CHECK(states[0].at("stage") == "train");
  CHECK(has(states[0].at("message"), "fixture-ending-student"));
  CHECK_FALSE(has(states[0].at("message"), "frame #"));
}

TEST_CASE("plugin faults: a run that its plugin stopped is said, ended and recorded",
          "[e2e][plugins]") {
  const WithFixtures fixtures;
  const With limit("DKDM_PLUGIN_TIMEOUT", "5");
  const Program program;
  const auto file = program.write(
      "stop.toml",
      e2e::fixture_experiment("name = \"stop\"", row("a",
                                                     "plugin = \"fixture-ending-student\", how = "
                                                     "\"stop\", where = \"training\"")));
  const auto output = program.run({"run", file});
  INFO(output.err);
  CHECK(output.exit_code == 1);
  CHECK(has(output.err, "plugin fixture-ending-student (forward) stopped its process"));
  CHECK(has(output.err,
            "failed: a, seed 0, train: plugin fixture-ending-student (forward): was stopped "
            "and not continued"));
}

TEST_CASE("plugin faults: plan, sample and the like do not end well either", "[e2e][plugins]") {
  const WithFixtures fixtures;
  const Program program;
  const auto file = program.write(
      "ending.toml",
      e2e::fixture_experiment(
          "name = \"ending\"",
          row("ending", "plugin = \"fixture-ending-student\", where = \"constructor\"")));
  for (const char* command : {"plan", "run"}) {
    const auto output = program.run({command, file});
    INFO(command << ": " << output.err);
    CHECK(output.exit_code == 1);
    CHECK(
        has(output.err, "plugin fixture-ending-student (create): ended the process (exit code 0)"));
  }
}

TEST_CASE("plugin faults: a refused module leaves no trace", "[e2e][plugins]") {
  const WithFixtures fixtures;  // meddling-initialiser.so is one of many
  const Program program;
  program.write("tiny.toml", e2e::fixture_experiment("name = \"tiny\"", row("a", "")));
  // Relative paths: the working folder is what it was.
  const auto before = fs::current_path();
  fs::current_path(program.home());
  const auto plan = program.run({"plan", "tiny.toml"});
  const auto none = program.run({"plan", "none.toml"});
  const auto data = program.run({"data", "list", "--format", "json"});
  const auto run = program.run({"run", "tiny.toml"});
  fs::current_path(before);
  INFO(plan.err << none.err << data.err << run.err);
  CHECK(plan.exit_code == 0);
  CHECK(none.exit_code == 2);  // not what its exit handler says
  CHECK(json::accept(data.out));
  CHECK(run.exit_code == 0);
  CHECK_FALSE(has(run.out, "noise"));
  for (const auto& entry : fs::recursive_directory_iterator(program.home() / "artifacts"))
    CHECK((entry.status().permissions() & fs::perms::owner_read) != fs::perms::none);
}

TEST_CASE("plugin faults: what a student changes reaches no other row, and is said",
          "[e2e][plugins]") {
  const WithFixtures fixtures;
  const Program alone, together;
  const auto plain = row("plain", "");
  const auto file = alone.write("plain.toml", e2e::fixture_experiment("name = \"state\"", plain));
  const auto first = alone.run({"run", file});
  INFO(first.err);
  REQUIRE(first.exit_code == 0);
  const auto both = together.write(
      "both.toml",
      e2e::fixture_experiment("name = \"state\"",
                              row("meddling", "plugin = \"fixture-meddling-student\"") + plain));
  const auto second = together.run({"run", both});
  INFO(second.err);
  REQUIRE(second.exit_code == 0);
  CHECK(has(second.err, "fixture-meddling-student changed the process's floating-point mode"));
  CHECK_FALSE(has(second.out, "noise"));
  const auto expected = trained(alone.home());
  auto made = trained(together.home());
  REQUIRE(expected.size() == 1);
  REQUIRE(made.size() == 2);
  for (const auto& [key, weights] : expected) {
    INFO(key);
    CHECK(made[key] == weights);
  }
}

TEST_CASE("plugin faults: an output that changes in training is refused with plugin and step",
          "[e2e][plugins]") {
  const WithFixtures fixtures;
  const auto output =
      GENERATE(as<std::string>{}, "double", "half", "short", "wide", "none", "detached");
  INFO(output);
  const Program program;
  const auto file = program.write(
      "output.toml",
      e2e::fixture_experiment(
          "name = \"output\"",
          row("a", "plugin = \"fixture-meddling-student\", output = \"" + output + "\"")));
  const auto run = program.run({"run", file});
  INFO(run.err);
  CHECK(run.exit_code == 1);
  REQUIRE(complaints(run).size() == 1);
  CHECK(has(complaints(run)[0], "failed: a, seed 0, train: step 2: "));
  if (output != "detached")
    CHECK(has(complaints(run)[0], "fixture-meddling-student: forward: returned "));
}

TEST_CASE("plugin faults: an input that is changed in place is refused; any memory layout is taken",
          "[e2e][plugins]") {
  const WithFixtures fixtures;
  const auto output = GENERATE(as<std::string>{}, "in place", "expanded", "apart");
  INFO(output);
  const Program program;
  const auto file = program.write(
      "layout.toml",
      e2e::fixture_experiment(
          "name = \"layout\"",
          row("a", "plugin = \"fixture-meddling-student\", output = \"" + output + "\"")));
  const auto run = program.run({"run", file});
  INFO(run.err);
  CHECK(run.exit_code == (output == "in place"));
  if (output != "in place") return;
  REQUIRE(complaints(run).size() == 1);
  CHECK(
      has(complaints(run)[0], "fixture-meddling-student: forward: changed its input x_t in place"));
}

TEST_CASE("plugin faults: whichever call a plugin ends the process in, it is named",
          "[e2e][plugins]") {
  const WithFixtures fixtures;
  struct Case {
    std::string section, plugin, call;
  };
  const auto [section, plugin, call] =
      GENERATE(Case{"dataset", "fixture-faulty-dataset", "spec"},
               Case{"dataset", "fixture-faulty-dataset", "fingerprint"},
               Case{"teacher", "fixture-faulty-teacher", "fingerprint"},
               Case{"evaluator", "fixture-faulty-evaluator", "identity"},
               Case{"evaluator", "fixture-faulty-evaluator", "protocol"},
               Case{"row.a.method", "fixture-faulty-method", "needs"});
  INFO(plugin << " " << call);
  const bool isolated = GENERATE(false, true);
  const Program program;
  auto text = e2e::fixture_experiment(
      "name = \"ends\"", "[[row]]\nid = \"a\"\nmethod = { plugin = \"data-based\" }\n");
  if (section == "teacher") {
    text = e2e::fixture_experiment("name = \"ends\"", "[[row]]\nid = \"a\"\nteacher = true\n");
    const auto begin = text.find("[teacher.student]"), end = text.find("[student]");
    text.erase(begin, end - begin);
  }
  const auto file = program.write("ends.toml", text);
  std::vector<std::string> command{"run",   file,
                                   "--set", section + ".plugin=" + plugin,
                                   "--set", section + ".fault=ends in " + call};
  if (isolated) command.emplace_back("--isolate");
  const auto run = program.run(command);
  INFO(run.err);
  CHECK(run.exit_code == 1);
  REQUIRE(complaints(run).size() == 1);
  CHECK(has(complaints(run)[0], "plugin " + plugin + " (" + call + ")"));
  CHECK(has(complaints(run)[0], call == "fingerprint" && section == "dataset"
                                    ? "crashed: segmentation fault (signal 11); dkdm plugins check"
                                    : "ended the process (exit code "));
}

TEST_CASE("plugin faults: what a module changes when it is opened is said where it is used",
          "[e2e][plugins]") {
  const WithFixtures fixtures;  // meddling-student.so among them
  const Program program;
  const auto file =
      program.write("tiny.toml", e2e::fixture_experiment("name = \"tiny\"", row("a", "")));
  const auto without = program.run({"plan", file});
  CHECK(without.exit_code == 0);
  CHECK_FALSE(has(without.err, "changed the process's"));
  const auto with =
      program.run({"plan", file, "--set", "row.a.student.plugin=fixture-meddling-student"});
  CHECK(has(with.err, "fixture-meddling-student changed the process's floating-point mode"));
  CHECK(has(with.err, "(open); put back"));
}

TEST_CASE("plugin faults: a preparation that costs more than was announced is said",
          "[e2e][plugins]") {
  const WithFixtures fixtures;
  const Program program;
  const auto file = program.write(
      "dear.toml",
      e2e::fixture_experiment("name = \"dear\"",
                              "[[row]]\nid = \"a\"\nmethod = { plugin = "
                              "\"fixture-faulty-method\", fault = \"dear preparation\" }\n"));
  const auto run = program.run({"run", file});
  INFO(run.err);
  CHECK(has(run.err, "fixture-faulty-method: announced 0 teacher evaluations and made 8"));
}

TEST_CASE(
    "plugin faults: killed while a file is written or published, nothing of it is in an artifact",
    "[e2e][faults]") {
  const WithFixtures fixtures;
  const auto rows = row("a", "");
  const Program whole;
  REQUIRE(
      whole
          .run({"run", whole.write("sync.toml", e2e::fixture_experiment("name = \"sync\"", rows)),
                "--set", "train.checkpoint_every=1"})
          .exit_code == 0);
  const auto at = GENERATE(as<std::string>{}, "checkpoint.safetensors", "raw.safetensors",
                           "model.json", "manifest.json", "metrics.json");
  INFO("killed at the flush of " << at);
  const Program program;
  const auto file = program.write("sync.toml", e2e::fixture_experiment("name = \"sync\"", rows));
  {
    const With preload("LD_PRELOAD", kFixtures / "apart/kill-at-sync/kill-at-sync.so");
    const With where("DKDM_TEST_KILL_AT", at);
    CHECK(program.run({"run", file, "--set", "train.checkpoint_every=1"}).exit_code == 1);
  }
  const auto run = program.run({"run", file, "--set", "train.checkpoint_every=1"});
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  CHECK(trained(program.home()) == trained(whole.home()));
  for (const auto& entry : fs::recursive_directory_iterator(program.home() / "artifacts"))
    CHECK_FALSE(entry.path().filename().string().starts_with("."));
  CHECK(program.run({"db", "check", "--hash"}).exit_code == 0);
}

TEST_CASE("plugin faults: modules that hang or stop when they are opened are refused",
          "[e2e][plugins]") {
  const Program program;
  const With path("DKDM_PLUGIN_PATH", (kFixtures / "apart/hanging-initialiser").string() + ":" +
                                          (kFixtures / "apart/stopping-initialiser").string());
  const With limit("DKDM_PLUGIN_TIMEOUT", "5");
  const auto output = program.run({"plugins", "list"});
  INFO(output.err);
  CHECK(output.exit_code == 0);
  CHECK(has(output.err,
            "hanging-initialiser.so: open: takes longer than 5 s when opened "
            "(DKDM_PLUGIN_TIMEOUT sets the limit)"));
  CHECK(has(output.err, "stopping-initialiser.so: open: stops its process when opened"));
  CHECK(has(output.out, "adm-unet"));
  const With wrong("DKDM_PLUGIN_TIMEOUT", "soon");
  CHECK(program.run({"plugins", "list"}).exit_code == 2);
}

TEST_CASE("plugin faults: a file system that refuses locks is said at once", "[e2e][faults]") {
  const WithFixtures fixtures;
  const Program program;
  const auto file =
      program.write("tiny.toml", e2e::fixture_experiment("name = \"tiny\"", row("a", "")));
  const With preload("LD_PRELOAD", kFixtures / "apart/no-locks/no-locks.so");
  const auto output = program.run({"run", file});
  INFO(output.err);
  CHECK(output.exit_code == 1);
  REQUIRE(complaints(output).size() == 1);
  CHECK(has(complaints(output)[0], ".lock: cannot be locked: No locks available ("));
  CHECK(has(complaints(output)[0], "set DKDM_HOME"));
}
