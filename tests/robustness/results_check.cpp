// What goes wrong between database and disk is found, and repaired where it can be.
#include <signal.h>
#include <sqlite3.h>
#include <sys/wait.h>
#include <catch2/catch.hpp>

#include "artifact_support.hpp"
#include "results/admin/check.hpp"
#include "results/query/query.hpp"
#include "results/query/runs.hpp"

using namespace dkdm;
using namespace dkdm::results;
using namespace dkdm::results::testing;

namespace {

namespace fs = std::filesystem;

struct Home {
  TempFolder folder;
  fs::path root = folder.path(), database = root / "results.sqlite";

  CheckReport check(bool repair = false, bool hash = false) const {
    return check_database(database, root, {repair, hash});
  }
  // The findings, one a line, repaired ones with a +.
  std::string findings(bool repair = false, bool hash = false) const {
    std::string text;
    for (const auto& finding : check(repair, hash).findings) {
      text += (finding.repaired ? "+" : "-") + finding.what + "\n";
    }
    return text;
  }
  void execute(const std::string& sql) const {
    sqlite3* db = nullptr;
    REQUIRE(sqlite3_open(database.c_str(), &db) == SQLITE_OK);
    REQUIRE(sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr) == SQLITE_OK);
    sqlite3_close(db);
  }
};

std::string csv(const fs::path& file, const std::string& sql) {
  return query(file, sql).render(Format::csv);
}

}  // namespace

TEST_CASE("check: a sound database is called sound, and looking changes nothing",
          "[robustness][results]") {
  Home home;
  {
    Store store(home.database);
    add_made(store, home.root, "dynamic", 0, 9);
  }
  const auto before = read_file(home.database);
  const auto report = home.check(false, true);
  CHECK(report.sound());
  CHECK(report.findings.empty());
  CHECK(report.checks.size() >= 5);
  CHECK(read_file(home.database) == before);
}

TEST_CASE("check: references that eval and ref prepared are no fault", "[robustness][results]") {
  Home home;
  {
    Store store(home.database);
    add_made(store, home.root, "dynamic", 0, 9);
  }
  add_artifact(home.root, "evaluator", "v", {{"statistics.npz", "mu"}}, {{"stage", "evaluator"}});
  CHECK(home.findings().empty());
  const auto checks = home.check().checks;
  CHECK(std::any_of(checks.begin(), checks.end(), [](const std::string& check) {
    return contains(check, "1 prepared reference of dkdm eval and dkdm ref");
  }));
}

TEST_CASE("check: a result that was computed and not recorded is recorded",
          "[robustness][results]") {
  Home home;
  {  // The disk was full, or the process was killed, after the artifacts were made.
    Store store(home.database);
    auto run = a_run("dynamic", 4);
    run.key = "e";
    const auto id = store.begin_run(run, an_environment(), {});
    store.end_run(id, "failed", "evaluate", "the disk is full");
  }
  add_artifact(home.root, "train", "t", {{"ema.safetensors", "w"}},
               {{"stage", "train"}, {"pool", "p"}});
  add_artifact(home.root, "pool", "p", {{"pool", "p"}});
  // Made on a GPU, which its manifest says; those of the others are of before that was written.
  const auto manifest = home.root / "artifacts/pool/p/manifest.json";
  auto of_pool = nlohmann::ordered_json::parse(read_file(manifest));
  of_pool["device_peak_bytes"] = 3e9;
  write_file(manifest, of_pool.dump());
  add_artifact(home.root, "sample", "s", {{"images", "i"}}, {{"network", "t"}});
  add_artifact(home.root, "evaluate", "e", {{"metrics.json", metrics_json(8.5)}},
               {{"samples", "s"}, {"evaluator", "v"}});
  const auto found = home.findings();
  CHECK(contains(found, "-run 1 was computed to its end and not recorded\n"));
  CHECK(contains(found, "-artifacts/train/t is whole and not on record\n"));
  CHECK(csv(home.database, "SELECT count(*) AS n FROM metrics") == "n\r\n0\r\n");

  CHECK(home.check(true).sound());
  CHECK(home.findings().empty());
  CHECK(csv(home.database, "SELECT fid FROM table2") == "fid\r\n8.5\r\n");
  CHECK(csv(home.database, "SELECT name, key, steps FROM stages") ==
        "name,key,steps\r\nevaluate,e,100\r\npool,p,100\r\nsample,s,100\r\ntrain,t,100\r\n");
  CHECK(csv(home.database,
            "SELECT name, device_peak_bytes FROM stages WHERE device_peak_bytes > 0") ==
        "name,device_peak_bytes\r\npool,3e+09\r\n");
  CHECK(csv(home.database, "SELECT status, message FROM attempts") ==
        "status,message\r\nfailed,the disk is full\r\n"
        "done,recorded from its artifacts by dkdm db check\r\n");
  CHECK(csv(home.database, "SELECT count(*) AS n FROM artifacts") == "n\r\n4\r\n");
}

TEST_CASE("check: a step that was chosen and not recorded is recorded, and counts",
          "[robustness][results]") {
  Home home;
  {
    Store store(home.database);
    auto run = a_run("dynamic", 4);
    run.key = "c";
    const auto id = store.begin_run(run, an_environment(), {});
    store.end_run(id, "failed", "select", "the disk is full");
  }
  auto last = metrics_json(9.5);
  last.replace(last.find("\"step\":100"), 10, "\"step\":200");
  add_artifact(home.root, "train", "t", {{"ema.safetensors", "w"}}, {{"stage", "train"}});
  add_artifact(home.root, "snapshots", "n", {{"metrics.json", metrics_json(8.5)}},
               {{"network", "t"}, {"evaluate", "e"}});
  add_artifact(home.root, "evaluate", "e", {{"metrics.json", last}}, {{"network", "t"}});
  add_artifact(home.root, "select", "c",
               {{"metrics.json", metrics_json(8.5)},
                {"selection.json",
                 "{\"rule\":\"best:fid\",\"step\":100,\"last_step\":200,"
                 "\"candidates\":2,\"by\":" +
                     metrics_json(8.5) + "}"}},
               {{"rule", "best:fid"}, {"snapshots", "n"}, {"evaluate", "e"}});
  CHECK(contains(home.findings(), "-run 1 was computed to its end and not recorded\n"));
  CHECK(home.check(true).sound());
  CHECK(csv(home.database, "SELECT fid, step, selection, last_fid FROM table2") ==
        "fid,step,selection,last_fid\r\n8.5,100,best:fid,9.5\r\n");
  CHECK(csv(home.database, "SELECT name FROM stages ORDER BY name") ==
        "name\r\nevaluate\r\nselect\r\nsnapshots\r\ntrain\r\n");
}

TEST_CASE("check: samples that nobody kept, and evaluations on the way, are recorded as well",
          "[robustness][results]") {
  Home home;
  {
    Store store(home.database);
    auto run = a_run("dynamic", 4);
    run.key = "c";
    store.end_run(store.begin_run(run, an_environment(), {}), "failed", "snapshots", "no space");
  }
  add_artifact(home.root, "train", "t", {{"ema.safetensors", "w"}}, {{"stage", "train"}});
  // The manifest of an artifact that was never published, as a file of the one that used it.
  add_artifact(home.root, "sample", "s", {}, {{"network", "t"}});
  const auto samples = read_file(home.root / "artifacts/sample/s/manifest.json");
  fs::remove_all(home.root / "artifacts/sample");
  add_artifact(home.root, "evaluate", "e",
               {{"metrics.json", metrics_json(8.5)}, {"samples.json", samples}},
               {{"samples", "s"}});
  auto early = nlohmann::json::parse(metrics_json(20));
  early[0]["step"] = 50;
  add_artifact(home.root, "snapshots", "c", {{"metrics.json", early.dump()}},
               {{"network", "t"}, {"evaluate", "e"}});
  CHECK(home.check(true).sound());
  CHECK(home.findings().empty());
  CHECK(csv(home.database, "SELECT step, value FROM metrics ORDER BY step") ==
        "step,value\r\n50,20\r\n100,8.5\r\n");
  CHECK(csv(home.database, "SELECT name, key, artifact FROM stages") ==
        "name,key,artifact\r\nevaluate,e,artifacts/evaluate/e\r\nsample,s,\r\n"
        "snapshots,c,artifacts/snapshots/c\r\ntrain,t,artifacts/train/t\r\n");
}

TEST_CASE("check: an attempt whose process was killed is marked, and its result recorded",
          "[robustness][results]") {
  Home home;
  const pid_t child = fork();
  if (child == 0) {
    Store store(home.database);
    auto run = a_run("dynamic");
    run.key = "e";
    store.begin_run(run, an_environment(), {});
    add_artifact(home.root, "evaluate", "e", {{"metrics.json", metrics_json(7)}});
    raise(SIGKILL);
  }
  waitpid(child, nullptr, 0);
  CHECK(contains(home.findings(), "-run 1 is recorded as running, but its process"));
  const auto repaired = home.check(true);
  CHECK(repaired.sound());
  CHECK(csv(home.database, "SELECT status FROM attempts") == "status\r\ncrashed\r\ndone\r\n");
  CHECK(csv(home.database, "SELECT fid FROM table2") == "fid\r\n7\r\n");
}

TEST_CASE("check: missing and changed artifacts are told apart", "[robustness][results]") {
  Home home;
  Store store(home.database);
  add_made(store, home.root, "dynamic", 0, 9);
  const fs::path train = home.root / "artifacts/train/traindynamic0";
  fs::remove_all(home.root / "artifacts/sample/sampledynamic0");
  write_file(train / "deep/data.bin", "xdynamic0");  // of the same size
  CHECK(home.findings() == "-artifacts/sample/sampledynamic0 is missing\n");
  CHECK(home.findings(false, true) ==
        "-artifacts/sample/sampledynamic0 is missing\n"
        "-artifacts/train/traindynamic0 is damaged: deep/data.bin has another content\n");
  write_file(train / "deep/data.bin", "short");
  CHECK(contains(home.findings(), "data.bin has 5 bytes, its manifest says 9"));

  const auto repaired = home.check(true);
  CHECK_FALSE(repaired.sound());  // nobody can bring the samples back
  CHECK(fs::exists(train.string() + ".damaged"));
  CHECK_FALSE(fs::exists(train));
  fs::remove_all(train.string() + ".damaged");

  // The next run makes both again: the samples to the byte, the training a little differently, as
  // on another machine.
  add_artifact(home.root, "sample", "sampledynamic0", {{"deep/data.bin", "wdynamic0"}});
  add_artifact(home.root, "train", "traindynamic0", {{"deep/data.bin", "otherwise"}});
  CHECK(home.findings(true) == "+artifacts/train/traindynamic0 was made again and not recorded\n");
  CHECK(home.findings().empty());
}

TEST_CASE("check: an index that lost a row is found and made anew", "[robustness][results]") {
  Home home;
  {
    Store store(home.database);
    add_made(store, home.root, "dynamic", 0, 9);
  }
  // What a failing disk does: the table has a row that its index has not.
  home.execute(
      "PRAGMA writable_schema = ON; CREATE TABLE spare (key TEXT);"
      "CREATE INDEX spare_by_key ON spare (key);"
      "UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = "
      "'spare_by_key') WHERE name = 'runs_by_key'; DELETE FROM sqlite_schema WHERE name LIKE "
      "'spare%'");
  CHECK(contains(home.findings(), "runs_by_key"));
  home.check(true);
  CHECK_FALSE(contains(home.findings(), "runs_by_key"));
  CHECK(csv(home.database, "SELECT count(*) AS n FROM runs WHERE key = 'evaluatedynamic0'") ==
        "n\r\n1\r\n");
}

TEST_CASE("check: which values count is made anew", "[robustness][results]") {
  Home home;
  Store store(home.database);
  const auto id = add_made(store, home.root, "dynamic", 0, 9);
  store.record_metrics(id, {a_metric("fid", 10)});
  home.execute("UPDATE latest_values SET metric = 1");
  CHECK(contains(home.findings(), "latest_values is wrong about 2 values"));
  CHECK(home.check(true).sound());
  CHECK(csv(home.database, "SELECT fid FROM table2") == "fid\r\n10\r\n");
}
