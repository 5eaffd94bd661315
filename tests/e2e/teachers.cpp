// Teachers from files, through the real program: where a path of an experiment file leads, which of
// a file's weights are scored and how they are called, and a teacher that does not fit the run.
#include <ATen/ATen.h>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "dkdm/checkpoint.hpp"
#include "dkdm/files.hpp"
#include "dkdm/io.hpp"
#include "e2e/fixture_experiment.hpp"
#include "e2e/program.hpp"
#include "fixtures/teachers.hpp"

namespace {

using Catch::Matchers::Contains;
using e2e::Output;
using e2e::Program;
namespace fs = std::filesystem;
namespace io = dkdm::io;

const std::map<std::string, dkdm::Value> kDit{{"depth", std::int64_t{1}},
                                              {"hidden_size", std::int64_t{32}},
                                              {"num_heads", std::int64_t{1}},
                                              {"patch_size", std::int64_t{4}}};

// A teacher's row alone: 8 x 8 images of `channels` channels, paths relative to the file.
std::string experiment(const std::string& teacher) {
  return R"toml([experiment]
name = "from-a-file"
[dataset]
plugin = "npz"
file = "images.npz"
[diffusion]
schedule = "linear"
[teacher]
plugin = "guided-diffusion"
path = ")toml" +
         teacher + R"toml("
[sample]
count = 8
respacing = "2"
[evaluator]
plugin = "fixture-metric"
[[row]]
id = "teacher"
teacher = true
)toml";
}

io::NamedTensors below(const std::string& prefix, io::NamedTensors tensors) {
  for (auto& [name, tensor] : tensors) name = prefix + name;
  return tensors;
}

class Files : public Program {
 public:
  explicit Files(std::int64_t channels = 3) {
    io::write_npz(home() / "images.npz", {{"arr_0", at::zeros({4, 8, 8, channels}, at::kByte)}});
    // Small enough that the variance of two sampling steps stays finite.
    for (const auto& [name, tensor] : dkdm::fixtures::filled_weights(kDit, {3, 8, 8}, "dit")) {
      raw.emplace_back(name, tensor * 0.6);
      average.emplace_back(name, tensor * 0.5);
    }
  }

  io::NamedTensors raw, average;
};

std::string weights_of(const Program& program) {
  const Output said = program.run(
      {"query", "SELECT DISTINCT weights FROM metrics ORDER BY weights", "--format", "csv"});
  INFO(said.err);
  return said.out;
}

}  // namespace

TEST_CASE("teachers: paths of an experiment file are relative to it, wherever the program runs",
          "[e2e][teachers]") {
  const e2e::WithFixtures fixtures;
  const Files program;
  fs::create_directories(program.home() / "weights");
  io::write_torch(program.home() / "weights/dit.pt", program.raw);
  const auto file = program.write("t.toml", experiment("weights/dit.pt"));
  const Output planned = program.run({"plan", file.string()});
  INFO(planned.err);
  CHECK(planned.exit_code == 0);

  // The same experiment in another place has the same keys.
  const fs::path moved = program.home() / "elsewhere";
  fs::create_directories(moved / "weights");
  for (const char* name : {"t.toml", "images.npz", "weights/dit.pt"})
    fs::copy_file(program.home() / name, moved / name);
  const auto keys = [&](const fs::path& where) {
    const Output said = program.run({"plan", where.string(), "--format", "json"});
    INFO(said.err);
    std::vector<std::string> keys;
    for (const auto& stage : nlohmann::json::parse(said.out))
      if (stage.at("key").is_string()) keys.push_back(stage.at("key"));
    return keys;
  };
  CHECK(keys(file).size() >= 2);  // samples, evaluator, evaluation
  CHECK(keys(file) == keys(moved / "t.toml"));

  const std::string absent = std::string(std::getenv("HOME")) + "/no-such-dit.pt";
  const Output missing =
      program.run({"run", file.string(), "--set", "teacher.path=~/no-such-dit.pt"});
  CHECK(missing.exit_code == 3);
  CHECK_THAT(missing.err, Contains(absent + ": no such file"));
  const Output listed =
      program.run({"plan", file.string(), "--set", "teacher.path=~/no-such-dit.pt"});
  CHECK(listed.exit_code == 0);
  CHECK_THAT(listed.out, Contains("Needs") && Contains(absent));
}

TEST_CASE("teachers: one from elsewhere has its cost in the plan and its parameters in the record",
          "[e2e][teachers]") {
  const e2e::WithFixtures fixtures;
  const Files program;
  io::write_torch(program.home() / "dit.pt", program.raw);
  std::int64_t parameters = 0;
  for (const auto& [name, tensor] : program.raw) parameters += tensor.numel();
  const auto file = program.write("t.toml", experiment("dit.pt")).string();
  const auto seconds = [&](const std::string& count) {
    const Output said =
        program.run({"plan", file, "--format", "json", "--set", "sample.count=" + count});
    INFO(said.err);
    for (const auto& stage : nlohmann::json::parse(said.out))
      if (stage.at("stage") == "sample and evaluate teacher")
        return stage.at("estimate").get<double>();
    return 0.0;
  };
  // A second is the metrics'; the network's share grows with the images, whatever the machine.
  CHECK(seconds("50000000") > seconds("8") + 1);

  const Output run = program.run({"run", file});
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  const Output said = program.run({"query", "SELECT parameters FROM runs", "--format", "csv"});
  CHECK_THAT(said.out, Contains(std::to_string(parameters)));
}

TEST_CASE(
    "teachers: of a file with raw and EMA weights the EMA weights are scored, and raw ones are "
    "recorded as raw",
    "[e2e][teachers]") {
  const e2e::WithFixtures fixtures;
  const Files program;
  auto both = below("model.", program.raw);
  for (auto& entry : below("ema_model.", program.average)) both.push_back(std::move(entry));
  io::write_torch(program.home() / "both.pt", both);
  const auto file = program.write("t.toml", experiment("both.pt"));
  const Output run = program.run({"run", file.string()});
  INFO(run.err);
  CHECK(run.exit_code == 0);
  CHECK_THAT(run.err, Contains("EMA weights, from 'ema_model'; the raw ones are in 'model'"));
  CHECK_THAT(weights_of(program), Contains("ema") && !Contains("raw"));

  const Output raw = program.run({"run", file.string(), "--set", "teacher.weights=raw"});
  INFO(raw.err);
  CHECK(raw.exit_code == 0);
  CHECK_THAT(raw.err, Contains("raw weights, from 'model'"));
  CHECK_THAT(weights_of(program), Contains("raw"));

  const Output drawn =
      program.run({"sample", (program.home() / "both.pt").string(), "-n", "1", "--respacing", "2",
                   "--weights", "raw", "-o", (program.home() / "one.png").string()});
  CHECK(drawn.exit_code == 0);
  CHECK_THAT(drawn.err, Contains("raw weights, from 'model'"));
}

TEST_CASE("teachers: weights that nothing names are recorded, reported and exported as unlabelled",
          "[e2e][teachers]") {
  const e2e::WithFixtures fixtures;
  const Files program;
  io::write_torch(program.home() / "dit.pt", program.raw);
  const auto file = program.write("t.toml", experiment("dit.pt"));
  const Output run = program.run({"run", file.string()});
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  CHECK_THAT(run.err,
             Contains("recorded as unlabelled") && Contains("weights = \"ema\" or \"raw\""));
  CHECK_THAT(run.out, Contains("unlabelled weights") && !Contains("ema weights"));
  CHECK_THAT(weights_of(program), Contains("unlabelled") && !Contains("ema") && !Contains("raw"));
  const Output report = program.run({"report", "from-a-file", "--format", "json"});
  CHECK(nlohmann::json::parse(report.out).at(0).at("weights") == "unlabelled");

  // What [sample] asks of networks trained here says nothing of a file.
  const Output asked = program.run({"run", file.string(), "--set", "sample.weights=ema"});
  CHECK_THAT(asked.out, Contains("unlabelled weights"));
  const Output named = program.run({"run", file.string(), "--set", "teacher.weights=ema"});
  CHECK_THAT(named.out, Contains("ema weights") && !Contains("unlabelled weights"));
}

TEST_CASE("teachers: a file that an earlier run had for another dataset is refused before anything",
          "[e2e][teachers]") {
  const e2e::WithFixtures fixtures;
  const Program program;
  io::write_torch(program.home() / "dit.pt",
                  dkdm::fixtures::filled_weights(kDit, {1, 8, 8}, "dit"));
  const std::string hash = io::sha256_file(program.home() / "dit.pt");
  std::string text = experiment("dit.pt");
  text.replace(text.find("\"npz\"\nfile = \"images.npz\""), 25, "\"fixture-images\"\nsize = 8");
  const std::string file = program.write("t.toml", text).string();
  const auto with = [&](const char* command, const std::string& setting) {
    return program.run({command, file, "--set", setting});
  };

  // Nothing is known of the file yet, and a hash that is not its own is found.
  const Output planned = program.run({"plan", file});
  CHECK(planned.exit_code == 0);
  CHECK_THAT(planned.err, Contains(hash + "; nothing says what it was trained on, taken to be "
                                          "fixture-images"));
  for (const char* command : {"plan", "run"}) {
    const Output other = with(command, "teacher.sha256=" + std::string(64, 'a'));
    CAPTURE(command, other.err);
    CHECK(other.exit_code == 2);
    CHECK_THAT(other.err, Contains("[teacher] (guided-diffusion): sha256 is aaaa") &&
                              Contains("dit.pt has " + hash));
  }
  const Output run = with("run", "teacher.trained_on=celeba64");
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  CHECK_THAT(program.run({"runs", "show", "1", "--config"}).out,
             Contains("sha256 = \"" + hash + '"'));

  for (const char* command : {"plan", "run"}) {
    const Output said = program.run({command, file});
    CAPTURE(command, said.err);
    CHECK(said.exit_code == 2);
    CHECK_THAT(said.err, Contains("was trained on celeba64, as run 1 of from-a-file had it") &&
                             Contains("is of fixture-images"));
    CHECK(with(command, "teacher.trained_on=celeba64").exit_code == 0);
  }
}

TEST_CASE("teachers: a model that was trained here says of which dataset it is",
          "[e2e][teachers]") {
  const e2e::WithFixtures fixtures;
  const Program program;
  const auto trained = program.write(
      "trained.toml", e2e::fixture_experiment("name = \"trained\"",
                                              "[[row]]\nid = \"teacher\"\nteacher = true\n"
                                              "[[row]]\nid = \"dynamic\"\n"
                                              "method = { plugin = \"dynamic\" }\n"));
  const Output run = program.run({"run", trained.string()});
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  int models = 0;
  for (const auto& entry : fs::directory_iterator(program.home() / "artifacts/train")) {
    // The student's too, which saw no image.
    const auto json = nlohmann::json::parse(io::read_text(entry.path() / "model.json"));
    CHECK(json.at("trained_on") == "fixture-images");
    const std::string path = "teacher.path=" + entry.path().string();
    const std::string text = experiment("model");
    auto given = text;
    given.replace(given.find("\"guided-diffusion\""), 18, "\"checkpoint\"");
    given.replace(given.find("schedule = \"linear\""), 19, "");
    const std::string file = program.write("t.toml", given).string();
    io::write_npz(program.home() / "images.npz", {{"arr_0", at::zeros({4, 16, 16, 1}, at::kByte)}});
    const Output planned = program.run({"plan", file, "--set", path});
    CAPTURE(planned.err);
    CHECK(planned.exit_code == 0);
    CHECK_THAT(planned.err, Contains("was trained on fixture-images, as its model.json says") &&
                                Contains("is of npz: are these the same images?"));
    const Output refused =
        program.run({"plan", file, "--set", path, "--set", "teacher.trained_on=cifar10"});
    CHECK(refused.exit_code == 2);
    CHECK_THAT(refused.err, Contains("trained_on = \"cifar10\", but"));
    ++models;
  }
  CHECK(models == 2);
}

TEST_CASE("teachers: one whose images are not the run's is found by plan and named",
          "[e2e][teachers]") {
  const e2e::WithFixtures fixtures;
  const Files program(/*channels=*/1);
  io::write_torch(program.home() / "dit.pt", program.raw);
  const auto file = program.write("t.toml", experiment("dit.pt"));
  for (const char* command : {"plan", "run"}) {
    const Output said = program.run({command, file.string()});
    CAPTURE(command, said.err);
    CHECK(said.exit_code == 2);
    CHECK_THAT(said.err, Contains("[teacher] (guided-diffusion)") &&
                             Contains("images of 3x8x8, the run's are 1x8x8"));
  }
}
