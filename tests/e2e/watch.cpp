// `dkdm watch` beside a run of another process: it shows the run, tells when it was killed, and
// disturbs nothing.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "e2e/fixture_experiment.hpp"
#include "e2e/program.hpp"

namespace {

using e2e::Output;
using e2e::Program;
using e2e::WithFixtures;
using nlohmann::json;

const std::string kExperiment = e2e::fixture_experiment("name = \"watched\"", R"toml(
[[row]]
id = "long"
method = { plugin = "data-based" }
)toml");

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// The first row of `dkdm watch --format json` on `store`; null where there is none yet.
json watched(const Program& program, const e2e::fs::path& store) {
  const Output output = program.run({"watch", "--format", "json"}, store);
  if (output.exit_code != 0) return {};
  const json rows = json::parse(output.out);
  return rows.empty() ? json() : rows[0];
}

}  // namespace

TEST_CASE("watch: shows the run of another process as it goes, and that it was killed",
          "[e2e][watch]") {
  const WithFixtures fixtures;
  const Program runner, watcher;
  const auto file = runner.write("watched.toml", kExperiment);
  const std::vector<std::string> command{
      "run", file, "--set", "row.long.train.steps=50000000", "--set", "train.log_every=10"};
  json seen;
  const auto training = [&] {
    seen = watched(watcher, runner.home());
    return seen.is_object() && seen.value("stage", "") == "train long" &&
           seen.at("done").is_number() && seen.at("done") > 0 && seen.at("loss").is_number();
  };
  const Output killed = runner.run_until(command, training, SIGKILL);
  INFO(seen.dump());
  REQUIRE(seen.is_object());
  CHECK(seen.at("state") == "running");
  CHECK(seen.at("experiment") == "watched");
  CHECK(seen.at("row") == "long");
  CHECK(seen.at("total") == 50000000);
  CHECK(seen.at("left_s") > 0);
  CHECK(seen.at("pid").is_number());
  CHECK(killed.exit_code == 128 + SIGKILL);

  // What computes is a child of the process that was killed, and ends with it in a moment.
  for (int i = 0; i < 200 && watched(watcher, runner.home()).at("state") != "gone"; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  CHECK(watched(watcher, runner.home()).at("state") == "gone");
  const Output text = watcher.run({"watch", "--once"}, runner.home());
  CHECK(text.exit_code == 0);
  CHECK(has(text.out, "is gone, it was at stage train"));
  CHECK(has(text.out, "Rerun the same command to resume."));

  // Nobody's word is left after a run that ends by itself.
  const Output done = runner.run({"run", file, "--set", "row.long.train.steps=3"});
  INFO(done.err);
  CHECK(done.exit_code == 0);
  const json last = watched(watcher, runner.home());
  CHECK(last.at("state") == "done");
  CHECK(e2e::fs::is_empty(runner.home() / "progress"));
  CHECK(has(watcher.run({"watch"}, runner.home()).out, "Nothing is running."));
}
