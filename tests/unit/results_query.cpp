// SQL from a person's hand reads and does nothing else; runs are listed, compared, removed.
#include <catch2/catch.hpp>
#include <map>
#include <nlohmann/json.hpp>

#include "results/query/query.hpp"
#include "results/query/runs.hpp"
#include "results_support.hpp"

using namespace dkdm;
using namespace dkdm::results;
using namespace dkdm::results::testing;

TEST_CASE("query: rows come back in every format", "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  add_finished(store, a_run("dynamic"), {a_metric("fid", 9.5)});
  const auto table = query(file, "SELECT row, fid, NULL AS missing, fid FROM table2; -- end");
  CHECK(table.render(Format::csv) == "row,fid,missing,fid_2\r\ndynamic,9.5,,9.5\r\n");
  const auto json = nlohmann::json::parse(table.render(Format::json));
  CHECK(json[0]["fid"] == 9.5);
  CHECK(json[0]["missing"].is_null());
  CHECK(query(file, "WITH x AS (SELECT 1 AS a UNION ALL SELECT 2) SELECT sum(a) AS s FROM x")
            .rows[0][0]
            .text == "3");
  CHECK(query(file, "SELECT count(*) AS n FROM pragma_table_info('runs')").rows[0][0].text ==
        "21");  // columns of runs in schema.sql
}

TEST_CASE("query: whatever could change a file is refused and changes nothing", "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  {
    Store store(file);
    add_finished(store, a_run("dynamic"), {a_metric("fid", 9.5)});
  }
  const auto before = read_file(file);
  const auto other = (folder / "other.sqlite").string();
  const std::vector<std::string> hostile = {
      "INSERT INTO plugins VALUES (9, '', '', '', '', '')",
      "DELETE FROM runs",
      "UPDATE metrics SET value = 0",
      "DROP TABLE runs",
      "UPDATE sqlite_master SET sql = ''",
      "CREATE TABLE t (a)",
      "CREATE TEMP TABLE t (a)",
      "ATTACH '" + other + "' AS o",
      "VACUUM INTO '" + other + "'",
      "VACUUM",
      "PRAGMA user_version = 9",
      "PRAGMA query_only = OFF",
      "PRAGMA writable_schema = ON",
      "PRAGMA journal_mode = DELETE",
      "BEGIN IMMEDIATE",
      "COMMIT",
      "SELECT load_extension('x')",
      "SELECT 1; DELETE FROM runs",
      "WITH x AS (SELECT 1) DELETE FROM runs",
      "REINDEX",
  };
  for (const auto& sql : hostile) {
    INFO(sql);
    CHECK_THROWS_AS(query(file, sql), ConfigError);
  }
  CHECK(read_file(file) == before);
  CHECK_FALSE(std::filesystem::exists(other));
  CHECK(query(file, "SELECT count(*) AS n FROM runs").rows[0][0].text == "1");
}

TEST_CASE("query: wrong SQL is answered with the mistake and the names there are",
          "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  CHECK_THROWS_WITH(query(file, "SELECT * FROM rnus"), Catch::Contains("no such table: rnus") &&
                                                           Catch::Contains("did you mean runs?"));
  CHECK_THROWS_WITH(query(file, "SELECT * FROM tabel2"), Catch::Contains("did you mean table2?"));
  CHECK_THROWS_WITH(query(file, "SELECT * FROM nothing_of_the_kind"),
                    Catch::Contains("views: asked, cells, costs, failures") &&
                        Catch::Contains("settings, stages"));
  CHECK_THROWS_WITH(query(file, "SELECT r.labell FROM runs r"),
                    Catch::Contains("did you mean label?"));
  // Of the tables that are asked, not of any.
  CHECK_THROWS_WITH(query(file, "SELECT experimnt FROM leaderboard"),
                    Catch::Contains("did you mean experiment?"));
  CHECK_THROWS_WITH(query(file, "SELECT elapsed_s FROM experiments"),
                    Catch::Contains("experiments has id, name") &&
                        Catch::Contains("a column of that name is in ") &&
                        Catch::Contains("stages"));
  CHECK_THROWS_WITH(query(file, "SELECT rwo FROM runs"), Catch::Contains("at character 8"));
  CHECK_THROWS_WITH(query(file, "  "), Catch::Contains("empty"));
  CHECK_THROWS_WITH(query(file, "SELECT 1; SELECT 2"), Catch::Contains("more than one"));
}

TEST_CASE("runs: the list has every run with its state", "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  add_finished(store, a_run("teacher"), {});
  const auto failed = store.begin_run(a_run("dynamic"), an_environment(), {});
  store.end_run(failed, "failed", "train", "loss is not finite");
  const auto json = nlohmann::json::parse(runs_list(file).render(Format::json));
  REQUIRE(json.size() == 2);
  CHECK(json[0]["row"] == "teacher");
  CHECK(json[1]["status"] == "failed");
  CHECK(json[1]["started"].is_number());
  CHECK(json[1]["key"] == "key-dynamic-");  // the first twelve characters
  CHECK(runs_list(file, "desk").rows.size() == 2);
  CHECK_THROWS_WITH(runs_list(file, "dsek"), Catch::Contains("did you mean desk?"));
}

TEST_CASE("runs: the runs that were finished with a teacher's weights, and whose images they took",
          "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  const auto run_with = [](const std::string& row, const std::string& settings) {
    auto run = a_run(row);
    run.teacher = "checkpoint";
    run.dataset = "cifar10";
    run.config = "[teacher]\nsha256 = \"00ff\"\n" + settings;
    return run;
  };
  const auto first = add_finished(store, run_with("dynamic", ""), {});
  const auto stated = add_finished(store, run_with("free", "trained_on = \"celeba64\"\n"), {});
  const auto failed = store.begin_run(run_with("shuffled", ""), an_environment(), {});
  store.end_run(failed, "failed", "train", "loss is not finite");
  auto unused = run_with("data_based", "");  // has the teacher in common with the others
  unused.teacher = "";
  add_finished(store, unused, {});
  add_finished(store, a_run("iterative"), {});

  const auto uses = teacher_uses(file, "00ff");
  REQUIRE(uses.size() == 2);
  CHECK(uses[0].run == stated);
  CHECK(uses[0].images == "celeba64");
  CHECK(uses[1].run == first);
  CHECK(uses[1].images == "cifar10");
  CHECK(uses[1].experiment == "desk");
  CHECK(teacher_uses(file, "00fe").empty());
}

TEST_CASE("runs: the detail of a run shows all that is recorded", "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  const auto id = add_finished(store, a_run("dynamic"), {a_metric("fid", 9.5)});
  store.record_artifact({"stage-key-dynamic-0", "grid", "grid.png", "00ff", 12});
  const auto detail = run_detail(file, id);
  CHECK(detail.config == a_run("dynamic").config);
  const auto json = nlohmann::json::parse(detail.render(Format::json));
  CHECK(json["metrics"][0]["value"] == 9.5);
  CHECK(json["stages"][0]["key"] == "stage-key-dynamic-0");
  CHECK(json["artifacts"][0]["path"] == "grid.png");
  CHECK(json["plugins"][0]["name"] == "adm-unet");
  CHECK(json["attempts"][0]["pid"] == getpid());
  const auto text = detail.render(Format::text);
  for (const char* part : {"Environment", "two slow cores", "Configuration", "steps = 100"}) {
    CHECK(contains(text, part));
  }
  CHECK_THROWS_WITH(run_detail(file, 99), Catch::Contains("no run 99"));
}

TEST_CASE("runs: a run's detail says what its networks computed on", "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  auto machine = a_gpu_environment();
  machine.repeatable = false;
  const auto id = store.begin_run(a_run("dynamic"), machine, {});
  record::StageRecord train;
  train.name = "train";
  train.key = "t";
  train.device_peak_bytes = 7'250'000'000;
  store.record_stage(id, train);
  store.end_run(id, "done", "", "");
  const auto detail = run_detail(file, id);
  const auto json = nlohmann::json::parse(detail.render(Format::json));
  CHECK(json["stages"][0]["device peak"] == 7.25e9);
  std::map<std::string, nlohmann::json> environment;
  for (const auto& field : json["environment"]) environment[field["field"]] = field["value"];
  CHECK(environment["gpu"] == "NVIDIA H200");
  CHECK(environment["device"] == "cuda:0");
  CHECK(environment["driver"] == "570.86");
  CHECK(environment["repeatable"] == "0");
  CHECK(contains(detail.render(Format::text), "7.25 GB"));

  // Another device is a difference that changes no key.
  const auto on_cpu = add_finished(store, a_run("dynamic", 1), {});
  CHECK(contains(runs_diff(file, id, on_cpu).render(Format::csv),
                 "environment device,cuda:0,cpu,no\r\n"));
}

TEST_CASE("runs: the difference of two runs names settings and metrics", "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  const auto a = add_finished(store, a_run("dynamic"), {a_metric("fid", 9.5)});
  auto changed = a_run("dynamic");
  changed.key += "x";
  changed.config = "[train]\nsteps = 200\nlr = 0.001\n";
  const auto b = add_finished(store, changed, {a_metric("fid", 8)});
  const auto csv = runs_diff(file, a, b).render(Format::csv);
  CHECK(contains(csv, "setting train.steps,100,200,unknown\r\n"));
  CHECK(contains(csv, "metric fid@512 ema (classifier-1a2b),9.5,8,\r\n"));
  CHECK_FALSE(contains(csv, "train.lr"));
  CHECK_FALSE(contains(csv, "environment"));
  CHECK(runs_diff(file, a, a).rows.empty());
}

TEST_CASE("runs: a removed run is gone with its facts, a running one stays", "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  const auto gone = add_finished(store, a_run("dynamic"), {a_metric("fid", 9.5)});
  const auto kept = add_finished(store, a_run("iterative"), {a_metric("fid", 9.6)});
  const auto running = store.begin_run(a_run("shuffled"), an_environment(), {});
  remove_run(file, gone);
  CHECK(query(file, "SELECT DISTINCT run FROM metrics").rows[0][0].text == std::to_string(kept));
  CHECK(query(file, "SELECT count(*) AS n FROM stages").rows[0][0].text == "1");
  CHECK_THROWS_WITH(remove_run(file, running), Catch::Contains("is being written by process"));
  CHECK_THROWS_WITH(remove_run(file, gone), Catch::Contains("no run"));
}

TEST_CASE("query: real numbers are rounded for a person and whole for a program",
          "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  const auto table = query(file,
                           "SELECT 9.0123456789 AS fid, 1772361234.56 AS time, 0.5 AS half, "
                           "0.000123456 AS small, 123456789 AS whole");
  const auto& row = table.rows[0];
  CHECK(row[0].text == "9.0123");
  CHECK(row[1].text == "1772361234.6");  // no digit before the point is lost
  CHECK(row[2].text == "0.5");
  CHECK(row[3].text == "0.00012346");
  CHECK(row[4].text == "123456789");
  const auto json = nlohmann::json::parse(table.render(Format::json))[0];
  CHECK(json["fid"] == 9.0123456789);
  CHECK(json["time"] == 1772361234.56);
  CHECK(
      contains(table.render(Format::csv), "9.0123456789,1772361234.56,0.5,0.000123456,123456789"));
}
