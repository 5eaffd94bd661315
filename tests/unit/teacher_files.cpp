// Teachers from elsewhere: their files are known by their hash, and a network of another dataset
// with the same shape is found before anything is made with it.
#include "run/teacher_files.hpp"

#include <catch2/catch.hpp>

#include <atomic>
#include <fstream>

#include "dkdm/files.hpp"
#include "fixtures/analytic.hpp"
#include "fixtures/experiments.hpp"
#include "run/run_host.hpp"

using namespace dkdm;
using Catch::Matchers::Contains;

namespace {

const plugin::Registry& registry() { return fixtures::shipped_plugins(); }

const std::string kText = R"([experiment]
name = "files"
[dataset]
plugin = "fashion-mnist"
[teacher]
plugin = "checkpoint"
path = "model"
[student]
plugin = "dit"
[train]
steps = 30
[sample]
count = 8
[evaluator]
plugin = "classifier"
[[row]]
id = "teacher"
teacher = true
[[row]]
id = "dynamic"
method = { plugin = "dynamic" }
[[row]]
id = "images"
method = { plugin = "data-based" }
)";

// kText beside a model folder, whose weights are not looked into.
struct Desk {
  fixtures::ScratchFolder folder;
  std::atomic<bool> stop{false};
  run::RunHost host{registry(), stop, nullptr};
  stages::StageContext context{registry(), host, {}};
  std::vector<run::EarlierUse> uses;
  std::string asked;  // the hash that was looked up last

  Desk() {
    std::ofstream(folder.path / "files.toml") << kText;
    std::filesystem::create_directory(folder.path / "model");
    std::ofstream(folder.path / "model/ema.safetensors") << "weights";
    describe("");
  }

  // `images`: whose they are, as the folder has it.
  void describe(const std::string& images) {
    const auto& info = registry().find("student", "dit");
    model::write_model_description(folder.path / "model",
                                   {{info.kind, info.name, info.version, Params(info.params, {})},
                                    {1, 16, 16},
                                    {},
                                    7,
                                    images});
  }

  std::string sha256() const { return io::sha256_file(folder.path / "model/ema.safetensors"); }

  config::Experiment settled(const std::vector<std::string>& overrides = {},
                             const run::Selection& selection = {}) {
    auto experiment =
        config::load_experiment({folder.path / "files.toml", overrides, {}}, registry());
    run::settle_teachers(
        experiment, selection, context,
        [&](const std::string& hash) {
          asked = hash;
          return uses;
        },
        /*say=*/true);
    return experiment;
  }

  std::string refused(const std::vector<std::string>& overrides = {}) {
    return fixtures::config_error([&] { settled(overrides); });
  }
};

std::string hash_of(const config::Row& row) { return row.teacher->plugin.params.text("sha256"); }

}  // namespace

TEST_CASE("teacher files: a network that draws latents is refused where images are of its shape",
          "[unit][run]") {
  Desk desk;
  const auto file = desk.folder.path / "model.ckpt";
  std::ofstream(file) << "weights";  // not looked into: the plugin says it
  CHECK_THAT(
      desk.refused({"teacher.plugin=ldm", "teacher.path=" + file.string()}),
      Contains("[teacher] (ldm): its network draws latents of an autoencoder, and experiments "
               "are of images"));
  // Of a row that does not use it nothing is asked.
  CHECK_NOTHROW(
      desk.settled({"teacher.plugin=ldm", "teacher.path=" + file.string()}, {.rows = {"images"}}));
}

TEST_CASE("teacher files: the hash of its weights is in the rows and in what is recorded",
          "[unit][run]") {
  Desk desk;
  const auto experiment = desk.settled();
  for (const auto& row : experiment.rows) CHECK(hash_of(row) == desk.sha256());
  CHECK(desk.asked == desk.sha256());
  // Once: it is still what all rows have in common.
  const std::string line = "sha256 = \"" + desk.sha256() + '"';
  const auto at = experiment.resolved.find(line);
  REQUIRE(at != std::string::npos);
  CHECK(experiment.resolved.find(line, at + 1) == std::string::npos);
  // A hash, or the word of what it was trained on, changes no result.
  CHECK(experiment.rows[0].teacher->plugin.params.determining().size() == 2);
}

TEST_CASE("teacher files: another file than the stated one is refused with both hashes",
          "[unit][run]") {
  Desk desk;
  const std::string other(64, 'a');
  CHECK_THAT(desk.refused({"teacher.sha256=" + other}),
             Contains("files.toml: [teacher] (checkpoint): sha256 is " + other) &&
                 Contains("model/ema.safetensors has " + desk.sha256()) &&
                 Contains("give the file that is meant"));
  desk.uses = {{7, "earlier", "cifar10"}};
  CHECK_THAT(desk.refused({"teacher.sha256=" + other}),
             Contains("(the teacher of run 7 on cifar10)"));
  desk.describe("celeba64");
  CHECK_THAT(desk.refused({"teacher.sha256=" + other}), Contains("(trained on celeba64)"));
  desk.describe("fashion-mnist");
  std::string upper = desk.sha256();
  for (char& c : upper) c = static_cast<char>(std::toupper(c));
  CHECK(hash_of(desk.settled({"teacher.sha256=" + upper}).rows[0]) == desk.sha256());
  CHECK_THAT(desk.refused({"teacher.sha256=12ab"}),
             Contains("sha256 = \"12ab\", expected the 64 hexadecimal digits"));
  // A row that uses no teacher does not ask whose file it is.
  CHECK_NOTHROW(desk.settled({"teacher.sha256=" + other}, {{"images"}, {}, 1, 1}));
}

TEST_CASE("teacher files: a model of another dataset is refused, by what its folder says",
          "[unit][run]") {
  Desk desk;
  desk.describe("fashion-mnist");
  CHECK_NOTHROW(desk.settled());
  desk.describe("celeba64");
  CHECK_THAT(desk.refused(),
             Contains("ema.safetensors was trained on celeba64, as its model.json says, and row "
                      "\"teacher\" is of fashion-mnist") &&
                 Contains("trained_on = \"celeba64\""));
  CHECK_NOTHROW(desk.settled({"teacher.trained_on=celeba64"}));
  CHECK_THAT(desk.refused({"teacher.trained_on=cifar10"}),
             Contains("trained_on = \"cifar10\", but") && Contains("was trained on celeba64"));
  CHECK_NOTHROW(desk.settled({}, {{"images"}, {}, 1, 1}));
  // An npz may hold anything, that dataset too.
  CHECK_NOTHROW(desk.settled({"dataset.plugin=npz", "dataset.file=some.npz"}));
}

TEST_CASE("teacher files: weights that an earlier run had for another dataset are refused",
          "[unit][run]") {
  Desk desk;
  desk.uses = {{12, "large", "imagenet64"}};
  CHECK_THAT(
      desk.refused(),
      Contains("was trained on imagenet64, as run 12 of large had it, and row \"teacher\" is "
               "of fashion-mnist") &&
          Contains("trained_on = \"imagenet64\", or \"fashion-mnist\" where run 12 had it "
                   "wrong"));
  for (const char* word : {"imagenet64", "fashion-mnist"})
    CHECK_NOTHROW(desk.settled({std::string("teacher.trained_on=") + word}));
  desk.uses.push_back({3, "small", "fashion-mnist"});
  CHECK_NOTHROW(desk.settled());
  // The folder knows better.
  desk.uses.pop_back();
  desk.describe("fashion-mnist");
  CHECK_NOTHROW(desk.settled());
}

TEST_CASE("teacher files: what is said of a file is refused where the teacher is trained here",
          "[unit][run]") {
  Desk desk;
  const std::vector<std::string> trained{"teacher.path=\"\"", "teacher.student.plugin=dit",
                                         "teacher.method.plugin=data-based"};
  CHECK(hash_of(desk.settled(trained).rows[0]).empty());
  for (const auto& word :
       std::vector<std::string>{"trained_on=cifar10", "sha256=" + std::string(64, 'a')}) {
    auto with = trained;
    with.push_back("teacher." + word);
    CHECK_THAT(desk.refused(with), Contains("is of a teacher from elsewhere"));
  }
}

TEST_CASE("teacher files: nothing is settled of a file that is absent", "[unit][run]") {
  Desk desk;
  CHECK(hash_of(desk.settled({"teacher.path=/nowhere/model"}).rows[0]).empty());
}

TEST_CASE("teacher files: the hash of shards is that of what sha256sum prints of them",
          "[unit][run]") {
  Desk desk;
  const auto unet = desk.folder.path / "unet";
  std::filesystem::create_directory(unet);
  for (const char* name : {"config.json", "scheduler_config.json"})
    std::ofstream(unet / name) << "{}";
  const std::string first = "diffusion_pytorch_model-00001-of-00002.safetensors",
                    second = "diffusion_pytorch_model-00002-of-00002.safetensors";
  std::ofstream(unet / first) << "first";
  std::ofstream(unet / second) << "second";
  std::ofstream(unet / "diffusion_pytorch_model.safetensors.index.json")
      << R"({"weight_map": {"a": ")" << second << R"(", "b": ")" << first << R"("}})";
  const auto experiment =
      desk.settled({"teacher.plugin=diffusers", "teacher.path=" + unet.string()});
  // sha256sum * | sha256sum
  CHECK(hash_of(experiment.rows[0]) == io::sha256(io::sha256("first") + "  " + first + "\n" +
                                                  io::sha256("second") + "  " + second + "\n"));
}
