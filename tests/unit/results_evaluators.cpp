// Values of one experiment under several evaluators: what is said, and the command that helps.
#include "results/admin/evaluators.hpp"

#include <catch2/catch.hpp>

#include "artifact_support.hpp"
#include "dkdm/files.hpp"

using namespace dkdm::results;
using namespace dkdm::results::testing;

namespace {

// A finished run whose evaluator was trained on its machine: `weights` are the bytes of its
// network.
std::int64_t add_run(Store& store, const std::filesystem::path& root, const std::string& row,
                     const std::string& weights, const std::string& machine) {
  auto run = a_run(row);
  run.key += machine;
  run.config =
      "[dataset]\nplugin = \"fashion-mnist\"\nroot = \"/a folder\"\nsize = 16\n\n"
      "[evaluator]\nplugin = \"classifier\"\nepochs = 2\nweights = \"train\"\n";
  const auto id = store.begin_run(run, an_environment(), {});
  const std::string key = "evaluator" + machine;
  add_artifact(root, "evaluator", key, {{"weights.safetensors", weights}});
  dkdm::record::StageRecord stage;
  stage.name = "evaluator";
  stage.key = key;
  stage.artifact = "artifacts/evaluator/" + key;
  store.record_stage(id, stage);
  store.record_metrics(
      id, {a_metric("fid", 9, "classifier-2-trained-" + sha256(weights).substr(0, 8))});
  store.end_run(id, "done", "", "");
  return id;
}

struct Measured {
  const char *row, *weights, *machine;
};

// A store with these runs, numbered from 1.
struct Merged {
  TempFolder folder;
  std::filesystem::path file = folder / "results.sqlite";
  explicit Merged(const std::vector<Measured>& runs) {
    Store store(file);
    for (const auto& run : runs) add_run(store, folder.path(), run.row, run.weights, run.machine);
  }
  std::vector<EvaluatorSplit> splits(const std::string& experiment = "") const {
    return evaluator_splits(file, folder.path(), experiment);
  }
};

}  // namespace

TEST_CASE("evaluators: values under one protocol have nothing to say", "[unit][results]") {
  CHECK(Merged({{"teacher", "a", "1"}, {"dynamic", "a", "1"}}).splits().empty());
}

TEST_CASE("evaluators: runs of two rulers are named with the command that measures them alike",
          "[unit][results]") {
  const Merged merged({{"teacher", "a", "1"}, {"dynamic", "a", "1"}, {"data_free", "b", "2"}});
  const auto splits = merged.splits();
  REQUIRE(splits.size() == 1);
  CHECK(splits[0].experiment == "desk");
  CHECK(splits[0].protocol == "classifier-2-trained-" + sha256("a").substr(0, 8));
  CHECK(splits[0].with == std::vector<std::int64_t>{1, 2});
  CHECK(splits[0].without == std::vector<std::int64_t>{3});
  const auto weights = merged.folder.path() / "artifacts/evaluator/evaluator1/weights.safetensors";
  CHECK(splits[0].command ==
        std::vector<std::string>{"eval", "3", "fashion-mnist:root=/a folder,size=16", "--evaluator",
                                 "classifier", "--set", "weights=" + weights.string(), "--record"});
  CHECK(contains(splits[0].text(), "2 runs"));
  CHECK(contains(splits[0].text(), sha256("b").substr(0, 8)));
  CHECK(merged.splits("another").empty());
  {
    INFO("measured with the other's ruler as well, all compare");
    Store store(merged.file);
    store.record_metrics(3, {a_metric("fid", 8, splits[0].protocol)});
  }
  CHECK(merged.splits().empty());
}

TEST_CASE("evaluators: runs of the same samples are one, and only what was asked for last counts",
          "[unit][results]") {
  const TempFolder folder;
  const auto file = folder / "results.sqlite";
  const auto splits = [&] { return evaluator_splits(file, folder.path()); };
  Store store(file);
  auto run = a_run("teacher");
  run.samples = "samples-1";
  run.config = "[dataset]\nplugin = \"cifar10\"\n\n[evaluator]\nplugin = \"inception\"\n";
  add_finished(store, run, {a_metric("fid", 4, "old-1")});
  auto other = a_run("dynamic");
  other.samples = "samples-2";
  other.config = run.config;
  add_finished(store, other, {a_metric("fid", 5, "new-1")});
  REQUIRE(splits().size() == 1);
  run.key += "-new";  // the same samples by the new evaluator
  add_finished(store, run, {a_metric("fid", 6, "new-1")});
  CHECK(splits().empty());

  // An old configuration under the old evaluator alone: a split only while its samples are asked
  // for.
  auto old = a_run("data_free");
  old.samples = "samples-3";
  old.config = run.config;
  add_finished(store, old, {a_metric("fid", 7, "old-1")});
  CHECK(splits().size() == 1);
  store.add_to_request(store.begin_request(run, "dkdm run desk.toml"), {run, other});
  CHECK(splits().empty());
  store.add_to_request(store.begin_request(run, "dkdm run desk.toml"), {run, other, old});
  REQUIRE(splits().size() == 1);
  CHECK(splits()[0].with ==
        std::vector<std::int64_t>{3, 4});  // of each ruler two; the newest run's
  CHECK(splits()[0].without == std::vector<std::int64_t>{2});
}

TEST_CASE("evaluators: only weights that are here are offered", "[unit][results]") {
  // Two runs of another machine came with a merge; the evaluator of the same key here is another.
  const Merged merged({{"dynamic", "b", "1"}, {"data_free", "b", "1"}, {"teacher", "a", "1"}});
  const auto splits = merged.splits();
  REQUIRE(splits.size() == 1);
  CHECK(splits[0].protocol == "classifier-2-trained-" + sha256("a").substr(0, 8));
  CHECK(splits[0].without == std::vector<std::int64_t>{1, 2});
  std::filesystem::remove_all(merged.folder.path() / "artifacts");
  const auto without = merged.splits();
  REQUIRE(without.size() == 1);
  CHECK(without[0].protocol == "classifier-2-trained-" + sha256("b").substr(0, 8));
  CHECK(without[0].command.empty());
}

TEST_CASE("evaluators: parameters of a ruler that needs no weights are repeated",
          "[unit][results]") {
  const auto command = [](const std::string& reference) {
    const TempFolder folder;
    const auto file = folder / "results.sqlite";
    Store store(file);
    for (const char* protocol : {"adm", "clean"}) {
      auto run = a_run(protocol);
      run.config = reference + "[evaluator]\nplugin = \"inception\"\nprotocol = \"" +
                   std::string(protocol) + "\"\n";
      add_finished(store, run, {a_metric("fid", 4, std::string(protocol) + "-1")});
    }
    const auto splits = evaluator_splits(file, folder.path());
    REQUIRE(splits.size() == 1);
    return splits[0].command;
  };
  const auto against = [](const std::string& reference) {
    return std::vector<std::string>{"eval",      "1",     reference,        "--evaluator",
                                    "inception", "--set", "protocol=clean", "--record"};
  };
  const std::string dataset = "[dataset]\nplugin = \"cifar10\"\n\n";
  CHECK(command(dataset) == against("cifar10"));
  const std::string statistics = "[reference]\nstatistics = \"/data/cifar10.npz\"\n\n";
  CHECK(command(statistics) == against("/data/cifar10.npz"));
  CHECK(command(dataset + statistics) == against("/data/cifar10.npz"));
}
