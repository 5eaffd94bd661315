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

TEST_CASE("plan: --memory has every part of every stage, and says what does not fit",
          "[e2e][plan]") {
  const WithFixtures fixtures;
  const Program program;
  const auto file = program.write("first.toml", experiment("first"));
  const json rows = plan(program, {file, "--seeds", "0-1", "--memory"});
  std::int64_t trainings = 0;
  for (const auto& row : rows) {
    INFO(row.dump());
    double sum = 0;
    for (const char* part : {"weights", "gradients", "moments", "ema", "teacher", "batch set",
                             "batch", "activations"}) {
      REQUIRE(row.at(part).is_number_integer());
      sum += row.at(part).get<double>();
    }
    CHECK(row.at("total").get<double>() == Approx(sum).margin(4));  // each rounded
    CHECK(row.at("fits") == "yes");
    if (row.at("stage") != "train one") continue;
    ++trainings;  // of two seeds, which are alike
    // Of one 1x1 convolution from C to 2C channels.
    const double weights = row.at("weights").get<double>();
    CHECK(weights > 0);
    CHECK(row.at("gradients") == weights);
    CHECK(row.at("moments") == 2 * weights);
    CHECK(row.at("ema") == weights);
    CHECK(row.at("teacher") == 0);
    CHECK(row.at("activations").get<double>() > 0);
  }
  CHECK(trainings == 1);

  const auto text = program.run({"plan", file, "--memory", "--device-memory", "0.1"});
  INFO(text.out << text.err);
  CHECK(text.exit_code == 0);
  CHECK(text.out.find("first: memory, of which the device has 100 MB (--device-memory)") == 0);
  CHECK(text.out.find("Memory is an estimate") != std::string::npos);
  // Batches of 60,000 images: tensors of a batch alone are more.
  const std::vector<std::string> large{"--memory", "--device-memory", "0.1", "--set",
                                       "train.batch=60000"};
  std::vector<std::string> args{"plan", file};
  args.insert(args.end(), large.begin(), large.end());
  const auto lacking = program.run(args);
  INFO(lacking.out);
  CHECK(lacking.out.find("train one needs ") != std::string::npos);
  CHECK(lacking.out.find(", the device has 100 MB (--device-memory): lower train.batch, or "
                         "train.precision = \"bf16\"\n") != std::string::npos);
  args.insert(args.end(), {"--format", "csv"});
  const auto csv = program.run(args);
  CHECK(csv.out.find("experiment,configuration,stage,weights,gradients,moments,ema,teacher,batch "
                     "set,batch,activations,total,fits") == 0);
  CHECK(csv.out.find(",no\r\n") != std::string::npos);
  CHECK(csv.err.find("train one needs ") != std::string::npos);

  // Done or not: it is a question about the device, not about what is to be made.
  REQUIRE(program.run({"run", file}).exit_code == 0);
  CHECK(plan(program, {file, "--memory"}).size() == rows.size());

  for (const char* wrong : {"0.05", "10001", "much"}) {
    const auto refused = program.run({"plan", file, "--memory", "--device-memory", wrong});
    CHECK(refused.exit_code == 2);
    CHECK(refused.err.find("--device-memory") != std::string::npos);
  }
  CHECK(program.run({"plan", file, "--device-memory", "8"}).exit_code == 2);
}

TEST_CASE("plan: --memory is of networks that this machine could not hold, too", "[e2e][plan]") {
  const Program program;
  // 24 blocks of 18 x 1536^2 weights, a thousand million; in training 20 GB with all copies.
  const auto file = program.write("large.toml", R"toml([experiment]
name = "large"
[dataset]
plugin = "cifar10"
root = "nowhere"
[student]
plugin = "dit"
depth = 24
hidden_size = 1536
num_heads = 16
patch_size = 2
[train]
steps = 10
batch = 256
[sample]
count = 100
[evaluator]
plugin = "classifier"
[[row]]
id = "one"
method = { plugin = "data-based" }
)toml");
  const auto output =
      program.run({"plan", file, "--memory", "--device-memory", "24", "--format", "json"});
  INFO(output.err);
  REQUIRE(output.exit_code == 0);
  CHECK(output.err.find("train one needs ") != std::string::npos);
  for (const auto& row : json::parse(output.out))
    if (row.at("stage") == "train one") {
      CHECK(row.at("weights").get<double>() == Approx(4.1e9).epsilon(0.03));
      CHECK(row.at("activations").get<double>() > 1e10);
      CHECK(row.at("fits") == "no");
    }
}
