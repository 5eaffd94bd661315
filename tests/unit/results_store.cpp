// The store: every record comes back, repeats are new rows, unfinished runs are continued.
#include <catch2/catch.hpp>

#include <limits>

#include "results/query/query.hpp"
#include "results_support.hpp"

using namespace dkdm;
using namespace dkdm::results;
using namespace dkdm::results::testing;

namespace {

// The single value of a query; "NULL" for nothing.
std::string value(const std::filesystem::path& file, const std::string& sql) {
  const auto table = query(file, sql);
  REQUIRE(table.rows.size() == 1);
  return table.rows[0][0].text.value_or("NULL");
}

}  // namespace

TEST_CASE("store: every record comes back as it was given", "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "deep/er/results.sqlite";  // folders are made
  Store store(file);
  const auto run = a_run("dynamic", 3);
  auto machine = a_gpu_environment();
  machine.repeatable = false;
  const auto id = store.begin_run(run, machine, {{"student", "dit", "2", "ViT", "dit.so"}});

  record::StageRecord stage;
  stage.name = "train";
  stage.key = "abc";
  stage.plugin = "dynamic";
  stage.started = 1000.25;
  stage.elapsed_s = 12.5;
  stage.artifact = "train/abc";
  stage.bytes = 1'400'000;
  stage.steps = 100;
  stage.teacher_evaluations = 6400;
  stage.flops = 2.5e15;
  stage.peak_bytes = 5'000'000'000;
  stage.device_peak_bytes = 7e9;
  stage.graphs = "student recorded";
  store.record_stage(id, stage);
  store.record_artifact({"abc", "weights", "train/abc/model.safetensors", "00ff", 1'400'000});
  store.record_metrics(id, {a_metric("fid", 254.5), a_metric("is", 2.33)});
  store.record_curves("abc", {{"loss", 1, 0.5}, {"loss", 2, 0.25}});
  store.end_run(id, "done", "", "");

  CHECK(value(file, "SELECT config FROM runs") == run.config);
  CHECK(value(file, "SELECT seed FROM runs") == "3");
  CHECK(value(file,
              "SELECT cpu || ', ' || gpu || ', ' || device || ', ' || driver || ', ' || repeatable "
              "FROM environments") == "many cores, NVIDIA H200, cuda:0, 570.86, 0");
  CHECK(value(file, "SELECT threads || ' ' || threads_reason FROM run_machines") ==
        "2 OMP_NUM_THREADS=2");
  CHECK(value(file, "SELECT name || version FROM plugins JOIN attempt_plugins ON plugin = id") ==
        "dit2");
  CHECK(
      query(file, "SELECT * FROM stages").render(Format::csv) ==
      "run,name,key,plugin,status,started,started_iso,elapsed_s,artifact,bytes,steps,"
      "teacher_evaluations,flops,teacher_s,held_bytes,peak_bytes,device_peak_bytes,graphs,error\r\n1,train,abc,dynamic,done,1000.25,"
      "1970-01-01T00:16:40.250Z,12.5,train/abc,1400000,100,6400,"
      "2.5e+15,,,5000000000,7e+09,student recorded,\r\n");
  CHECK(value(file, "SELECT value FROM metrics WHERE name = 'fid'") == "254.5");
  CHECK(value(file, "SELECT higher_is_better FROM metrics WHERE name = 'is'") == "1");
  CHECK(value(file, "SELECT sum(value) FROM curves WHERE stage_key = 'abc'") == "0.75");
  CHECK(value(file, "SELECT path FROM artifacts") == "train/abc/model.safetensors");
  CHECK(value(file, "SELECT status FROM run_status") == "done");
}

TEST_CASE("store: only a done run with the same key, experiment, row and seed is finished",
          "[unit][results]") {
  TempFolder folder;
  Store store(folder / "r.sqlite");
  const auto run = a_run("dynamic");
  CHECK_FALSE(store.finished_run(run));
  const auto id = store.begin_run(run, an_environment(), {});
  CHECK_FALSE(store.finished_run(run));
  store.end_run(id, "done", "", "");
  CHECK(store.finished_run(run) == id);
  for (auto change : {0, 1, 2, 3}) {
    auto other = run;
    if (change == 0) other.key += "x";
    if (change == 1) other.experiment += "x";
    if (change == 2) other.row += "x";
    if (change == 3) other.seed += 1;
    CHECK_FALSE(store.finished_run(other));
  }
}

TEST_CASE("store: an unfinished run is continued with a new attempt, a done one is not",
          "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  const auto run = a_run("dynamic");
  const auto first = store.begin_run(run, an_environment(), {});
  store.end_run(first, "failed", "train", "loss is not finite");
  CHECK(store.begin_run(run, an_environment(), {}) == first);
  store.end_run(first, "interrupted", "train", "");
  CHECK(store.begin_run(run, an_environment(), {}) == first);
  store.end_run(first, "done", "", "");
  CHECK(query(file, "SELECT status FROM attempts ORDER BY id").render(Format::csv) ==
        "status\r\nfailed\r\ninterrupted\r\ndone\r\n");
  CHECK(store.begin_run(run, an_environment(), {}) != first);
  CHECK(value(file, "SELECT count(*) FROM environments") == "1");
}

TEST_CASE("store: the same machine on another device, driver or kernels is another environment",
          "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  std::int64_t seed = 0, expected = 0;
  const auto begin = [&](const record::EnvironmentRecord& machine) {
    store.begin_run(a_run("dynamic", seed++), machine, {});
    return value(file, "SELECT count(*) FROM environments");
  };
  auto machine = a_gpu_environment();
  const auto is_another = [&] {
    const auto count = std::to_string(++expected);
    CHECK(begin(machine) == count);
    CHECK(begin(machine) == count);  // and the same again
  };
  is_another();
  machine.device = "cuda:1";
  is_another();
  machine.device = "cpu";
  is_another();
  machine.driver = "580.1";
  is_another();
  machine.repeatable = false;
  is_another();
}

TEST_CASE("store: force makes a repeat a new row and keeps the old one", "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  const auto first = add_finished(store, a_run("dynamic"), {a_metric("fid", 10)});
  store.set_force(true);
  CHECK_FALSE(store.finished_run(a_run("dynamic")));
  const auto second = add_finished(store, a_run("dynamic"), {a_metric("fid", 11)});
  CHECK(second != first);
  CHECK(value(file, "SELECT group_concat(value) FROM metrics") == "10.0,11.0");
  CHECK(value(file, "SELECT fid FROM table2") == "11");  // the latest counts
}

TEST_CASE("store: a done stage is not replaced by a cached or failed one", "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  const auto id = store.begin_run(a_run("dynamic"), an_environment(), {});
  record::StageRecord stage;
  stage.name = "train";
  using record::StageStatus;
  // Given in this order, what stands after each.
  const std::vector<std::pair<StageStatus, std::string>> steps = {
      {StageStatus::failed, "failed"}, {StageStatus::cached, "cached"},
      {StageStatus::failed, "failed"}, {StageStatus::done, "done"},
      {StageStatus::cached, "done"},   {StageStatus::failed, "done"}};
  for (const auto& [given, stands] : steps) {
    stage.status = given;
    store.record_stage(id, stage);
    CHECK(value(file, "SELECT status FROM stages") == stands);
  }
}

TEST_CASE("store: what is recorded twice stands once, and nothing is overwritten",
          "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  const auto id = store.begin_run(a_run("dynamic"), an_environment(), {});
  for (int i = 0; i < 2; ++i) {
    store.record_metrics(id, {a_metric("fid", 10)});
    store.record_curves("k", {{"loss", 1, 0.5 + i}});
    store.record_artifact({"k", "grid", "grid.png", "00", 5});
  }
  store.record_metrics(id, {a_metric("fid", 12)});
  CHECK(value(file, "SELECT count(*) FROM metrics") == "2");
  CHECK(value(file, "SELECT value FROM latest_metrics") == "12");
  CHECK(value(file, "SELECT value FROM curves") == "0.5");
  CHECK(value(file, "SELECT count(*) FROM artifacts") == "1");
}

TEST_CASE("store: a value that is not a number is kept as NULL", "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  const auto id = store.begin_run(a_run("dynamic"), an_environment(), {});
  store.record_metrics(id, {a_metric("fid", std::numeric_limits<double>::quiet_NaN())});
  CHECK(value(file, "SELECT value FROM metrics") == "NULL");
}

TEST_CASE("store: facts of a run that does not exist are refused by its number",
          "[unit][results]") {
  TempFolder folder;
  Store store(folder / "r.sqlite");
  CHECK_THROWS_WITH(store.end_run(77, "done", "", ""), Catch::Contains("no run 77"));
  CHECK_THROWS_WITH(store.record_metrics(78, {}), Catch::Contains("no run 78"));
}

TEST_CASE("store: the published figures are those of the paper", "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  const auto published = [&](const std::string& section, const std::string& row,
                             const std::string& metric) {
    return value(file, "SELECT value FROM published WHERE section = '" + section + "' AND row = '" +
                           row + "' AND metric = '" + metric + "'");
  };
  // DKDM (CVPR 2025), tables 2 to 5.
  CHECK(published("table2.cifar10", "dynamic", "fid") == "9.56");
  CHECK(published("table3.ffhq256", "teacher", "sfid") == "7.52");
  CHECK(published("table4", "celeba64", "images") == "202599");
  CHECK(published("table5", "vit_cnn_dynamic", "fid") == "13.17");
}
