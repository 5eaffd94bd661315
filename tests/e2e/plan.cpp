// What `dkdm plan` lists, on an experiment of fixtures: seeds, numbers, and reasons of its own.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>

#include "e2e/fixture_experiment.hpp"
#include "e2e/program.hpp"

namespace {

using e2e::Output;
using e2e::Program;
using e2e::WithFixtures;
using nlohmann::json;

std::string experiment(const std::string& name) {
  return e2e::fixture_experiment("name = \"" + name + "\"", R"toml(
[[row]]
id = "one"
method = { plugin = "data-based" }
)toml");
}

json plan(const Program& program, std::vector<std::string> args) {
  args.insert(args.begin(), "plan");
  args.insert(args.end(), {"--format", "json"});
  const Output output = program.run(args);
  INFO(output.err);
  REQUIRE(output.exit_code == 0);
  return json::parse(output.out);
}

json entry(const json& rows, const std::string& stage, const json& seed) {
  for (const auto& row : rows)
    if (row.at("stage").get<std::string>().find(stage) != std::string::npos &&
        row.at("seed") == seed)
      return row;
  FAIL("no " << stage << " of seed " << seed.dump() << " in " << rows.dump(1));
  return {};
}

}  // namespace

TEST_CASE(
    "plan: a stage has its seed, its cost is a number, and samples that pass through are no line",
    "[e2e][plan]") {
  const WithFixtures fixtures;
  const Program program;
  const auto file = program.write("first.toml", experiment("first"));
  REQUIRE(program.run({"run", file}).exit_code == 0);
  const json rows = plan(program, {file, "--seeds", "0-1"});
  for (const auto& row : rows) {
    INFO(row.dump());
    CHECK(row.at("stage").get<std::string>().find("sample one") != 0);
    CHECK(row.at("experiment") == "first");
    if (row.at("state") == "to run") CHECK(row.at("estimate").is_number());
  }
  CHECK(entry(rows, "train one", 0).at("state") == "done");
  CHECK(entry(rows, "train one", 1).at("state") == "to run");
  CHECK(entry(rows, "train one", 1).at("why") == "not run yet");  // not "differs from seed 0"
  CHECK(entry(rows, "evaluate one", 1).at("state") == "to run");
  CHECK(entry(rows, "evaluator", nullptr).at("state") == "done");  // of both seeds
  const auto text = program.run({"plan", file, "--seeds", "0"}).out;
  CHECK(text.find("first: 1 run, 0 stages to run") == 0);
}

TEST_CASE("plan: a stage is held against its own experiment's earlier one, not against another's",
          "[e2e][plan]") {
  const WithFixtures fixtures;
  const Program program;
  const auto first = program.write("first.toml", experiment("first"));
  const auto second = program.write("second.toml", experiment("second"));
  REQUIRE(program.run({"run", first}).exit_code == 0);
  const std::vector<std::string> change{"--set", "row.one.train.lr=0.5"};
  const json own = plan(program, {first, change[0], change[1]});
  CHECK(entry(own, "train one", 0).at("why").get<std::string>().find("lr = 0.5 (was 1e-04)") !=
        std::string::npos);
  const json other = plan(program, {second, change[0], change[1]});
  CHECK(entry(other, "train one", 0).at("why") == "not run yet");
  // Two experiments are one document.
  CHECK(plan(program, {first, second}).size() > own.size());
}
