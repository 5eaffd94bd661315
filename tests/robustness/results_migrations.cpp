// Files of earlier and later schemas: nothing of an older one is lost, however many processes find
// it at once; a newer one is refused.
#include <signal.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <catch2/catch.hpp>

#include <map>

#include "dkdm/store_error.hpp"
#include "results/query/query.hpp"
#include "results/query/runs.hpp"
#include "results_support.hpp"

using namespace dkdm;
using namespace dkdm::results;
using namespace dkdm::results::testing;

namespace {

namespace fs = std::filesystem;

fs::path fixture(const TempFolder& folder, const std::string& name) {
  const auto copy = folder / "r.sqlite";
  fs::copy_file(fs::path(DKDM_SOURCE_DIR "/tests/fixtures/databases") / name, copy);
  return copy;
}

// First column of every row, by SQLite itself: as a program of any version would.
std::vector<std::string> rows_of(const fs::path& file, const std::string& sql,
                                 int flags = SQLITE_OPEN_READONLY) {
  sqlite3* db = nullptr;
  REQUIRE(sqlite3_open_v2(file.c_str(), &db, flags, nullptr) == SQLITE_OK);
  std::vector<std::string> rows;
  const int code = sqlite3_exec(
      db, sql.c_str(),
      [](void* out, int, char** values, char**) {
        static_cast<std::vector<std::string>*>(out)->push_back(values[0] ? values[0] : "NULL");
        return 0;
      },
      &rows, nullptr);
  sqlite3_close(db);
  REQUIRE(code == SQLITE_OK);
  return rows;
}

const char* const kSchemaSql =
    "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY type, name";

// Migrates `file`: what `facts` ask for is there before, and the same afterwards.
void check_kept(const fs::path& file, const std::vector<std::string>& facts) {
  std::map<std::string, std::vector<std::string>> before;
  for (const auto& sql : facts) before[sql] = rows_of(file, sql);
  const Store migrating(file);
  for (const auto& sql : facts) {
    CAPTURE(sql);
    CHECK(!before[sql].empty());
    CHECK(rows_of(file, sql) == before[sql]);
  }
}

}  // namespace

TEST_CASE("migration: a database of an earlier version becomes what a new one is, with every fact",
          "[robustness][results]") {
  const std::string version = GENERATE("1", "2", "3", "4", "5", "6");
  TempFolder folder;
  const auto file = fixture(folder, "v" + version + ".sqlite");
  std::vector<std::string> facts = {
      "SELECT name || title || file FROM experiments",
      "SELECT id || key || row || seed || method || config || parameters || created FROM runs",
      "SELECT id || run || pid || started || coalesce(ended, '-') || status || message FROM attempts",
      "SELECT run || name || key || status || elapsed_s || steps || error FROM stages",
      "SELECT id || run || name || value || protocol || reference || recorded FROM metrics "
      "WHERE value IS NOT NULL",
      "SELECT stage_key || name || step || value FROM curves",
      "SELECT id || key || path || sha256 FROM artifacts",
      "SELECT host || cpu_features || memory_bytes FROM environments",
      "SELECT p.name || u.attempt FROM plugins p JOIN attempt_plugins u ON u.plugin = p.id"};
  if (version != "1") {
    // A rate of 1e-05 is spelled as TOML has it from then on: see below.
    facts.emplace_back("SELECT run || key || value FROM settings WHERE key <> 'train.lr'");
    if (version >= "4") {
      facts.emplace_back("SELECT run || key || value || coalesce(number, '') FROM settings");
      facts.emplace_back("SELECT id || samples || variant || teacher_key || created_iso FROM runs");
      facts.emplace_back("SELECT run || note FROM pins");
      facts.emplace_back("SELECT uid || command || host || recorded FROM requests");
      facts.emplace_back(
          "SELECT request || position || row || seed || key || variant FROM request_cells");
    }
    facts.emplace_back("SELECT stage_key || part || value FROM determinants");
    facts.emplace_back("SELECT uid FROM runs");
    facts.emplace_back("SELECT metric FROM latest_values");
  }
  std::map<std::string, std::vector<std::string>> before;
  for (const auto& sql : facts) before[sql] = rows_of(file, sql);
  CHECK_THROWS_WITH(runs_list(file), Catch::Contains("dkdm db migrate"));

  Store store(file);
  REQUIRE(store.migration());
  CHECK(store.migration()->from == std::stoi(version));
  CHECK(store.migration()->backup == file.string() + ".v" + version + "-backup");
  for (const auto& sql : facts) {
    INFO(sql);
    CHECK(!before[sql].empty());
    CHECK(rows_of(file, sql) == before[sql]);
    CHECK(rows_of(store.migration()->backup, sql) == before[sql]);
  }
  CHECK(rows_of(store.migration()->backup, "PRAGMA user_version")[0] == version);
  CHECK(rows_of(store.migration()->backup, "PRAGMA application_id")[0] == "1684759661");  // "dkdm"
  {
    Store fresh(folder / "fresh.sqlite");
  }
  CHECK(rows_of(file, kSchemaSql) == rows_of(folder / "fresh.sqlite", kSchemaSql));
  CHECK(rows_of(file, "PRAGMA user_version")[0] == "8");
  CHECK(rows_of(file, "PRAGMA integrity_check")[0] == "ok");
  CHECK(rows_of(file, "PRAGMA foreign_key_check").empty());
}

TEST_CASE("migration: what version 1 lacked is filled in", "[robustness][results]") {
  TempFolder folder;
  const auto file = fixture(folder, "v1.sqlite");
  Store store(file);
  const auto value = [&](const std::string& sql) {
    return *query(file, sql).rows.at(0).at(0).text;
  };
  CHECK(value("SELECT count(DISTINCT uid) FROM runs") == "5");
  CHECK(value("SELECT value FROM settings WHERE run = 2 AND key = 'method.rho'") == "0.4");
  CHECK(value("SELECT count(*) FROM settings WHERE run = 1 AND key = 'method.rho'") == "0");
  CHECK(value("SELECT min(m.seed = r.seed) FROM metrics m JOIN runs r ON r.id = m.run") == "1");
  CHECK(value("SELECT count(*) FROM metrics WHERE run = 1 AND value IS NULL") == "1");
  CHECK(value("SELECT fid FROM table2 WHERE row = 'teacher'") == "4.5");  // the newest
  // And the file lives on: a failed run is continued.
  auto run = a_run("dynamic", 2);
  run.experiment = "old";
  run.key = "key4";
  CHECK(store.begin_run(run, an_environment(), {}) == 4);
}

TEST_CASE("migration: what version 2 did not count stays unknown", "[robustness][results]") {
  TempFolder folder;
  const auto file = fixture(folder, "v2.sqlite");
  Store store(file);
  CHECK(query(file, "SELECT 1 FROM costs").rows.size() == 5);
  CHECK(query(file, "SELECT 1 FROM costs WHERE flops IS NOT NULL").rows.empty());
}

TEST_CASE("migration: seeds of one configuration are one variant, another learning rate is another",
          "[robustness][results]") {
  TempFolder folder;
  const auto file = fixture(folder, "v3.sqlite");
  Store store(file);
  // Runs 2 and 3 are seeds 0 and 1 at lr = 0.002; run 6 is seed 0 at lr = 1e-5. Seed 0's samples
  // name it.
  CHECK(rows_of(file, "SELECT variant FROM runs WHERE id IN (2, 3, 6) ORDER BY id") ==
        std::vector<std::string>{"sample2", "sample2", "sample6"});
  CHECK(rows_of(file, "SELECT DISTINCT length(variant) FROM runs WHERE id IN (4, 5)") ==
        std::vector<std::string>{"24"});
  CHECK(rows_of(file, "SELECT value FROM settings WHERE run = 6 AND key = 'train.lr'")[0] ==
        "1e-05");
  CHECK(rows_of(file, "SELECT number FROM settings WHERE run = 6 AND key = 'train.lr'")[0] ==
        "1.0e-05");
  CHECK(rows_of(file, "SELECT created_iso FROM runs WHERE id = 1")[0] ==
        "2023-11-14T22:13:21.000Z");
  // The newest run of each row and seed stands for what was asked for: never a mean over both
  // rates.
  CHECK(rows_of(file, "SELECT row || seed || '=' || key FROM asked ORDER BY row, seed") ==
        std::vector<std::string>{"dynamic0=key6", "dynamic1=key3", "dynamic2=key4", "dynamic3=key5",
                                 "teacher0=key1"});
  CHECK(rows_of(file,
                "SELECT mean || '/' || seeds FROM leaderboard WHERE metric = 'fid' "
                "ORDER BY place") == std::vector<std::string>{"6.5/1", "8.75/2"});
}

TEST_CASE(
    "migration: what version 4 kept of commands, variants and pins stays, and weights may be unlabelled",
    "[robustness][results]") {
  TempFolder folder;
  const auto file = fixture(folder, "v4.sqlite");
  const std::vector<std::string> facts{
      "SELECT variant || samples || teacher_key || created_iso FROM runs ORDER BY id",
      "SELECT experiment || row || seed || key || command || recorded_iso FROM asked ORDER BY row",
      "SELECT run || note || pinned_iso FROM pins",
      "SELECT run || name || value || weights || recorded_iso FROM latest_metrics "
      "JOIN (SELECT id AS metric, recorded_iso FROM metrics) ON metric = id ORDER BY id",
      "SELECT run || key || value || coalesce(number, '-') FROM settings ORDER BY run, key"};
  check_kept(file, facts);
  Store store(file);
  auto run = a_run("teacher", 7);
  run.experiment = "old";
  auto metric = a_metric("fid", 3.25);
  metric.weights = dkdm::record::kUnlabelled;
  add_finished(store, run, {metric});
  CHECK(rows_of(file, "SELECT weights FROM metrics WHERE value = 3.25")[0] == "unlabelled");
}

TEST_CASE("migration: version 4 did not say why so many threads", "[robustness][results]") {
  TempFolder folder;
  const auto file = fixture(folder, "v4.sqlite");
  Store store(file);
  CHECK(rows_of(file, "SELECT DISTINCT threads || threads_reason FROM run_machines")[0] == "2");
  // The same machine is another environment from now on, since that is known.
  add_finished(store, a_run("dynamic", 100), {a_metric("fid", 1)});
  CHECK(rows_of(file, "SELECT count(*) FROM environments")[0] == "2");
}

TEST_CASE("migration: version 4 called the evaluation of snapshots \"course\"",
          "[robustness][results]") {
  TempFolder folder;
  const auto file = fixture(folder, "v4.sqlite");
  const auto count = [&](const std::string& name) {
    return std::stoi(rows_of(file, "SELECT count(*) FROM stages WHERE name = '" + name + "'")[0]);
  };
  rows_of(file, "UPDATE stages SET name = 'course' WHERE name = 'sample'", SQLITE_OPEN_READWRITE);
  const int before = count("course");
  REQUIRE(before > 0);
  Store store(file);
  CHECK(count("course") == 0);
  CHECK(count("snapshots") == before);
}

TEST_CASE(
    "migration: version 5 chose no step, and a run that chooses one counts by it from then on",
    "[robustness][results]") {
  TempFolder folder;
  const auto file = fixture(folder, "v5.sqlite");
  const auto before = rows_of(file, "SELECT run || name || value FROM latest_metrics ORDER BY id");
  Store store(file);
  CHECK(rows_of(file, "SELECT run || name || value FROM latest_metrics ORDER BY id") == before);
  CHECK(rows_of(file, "SELECT DISTINCT selection FROM latest_metrics") ==
        std::vector<std::string>{"last"});
  CHECK(rows_of(file, "SELECT count(*) FROM stages WHERE teacher_s IS NOT NULL")[0] == "0");
  auto metric = a_metric("fid", 1.5);
  metric.step = 50;
  metric.protocol = "classifier-1a2b";
  store.record_metrics(2, {metric});
  store.record_selection(2, {"best:fid", 50, 100, 2, metric});
  CHECK(rows_of(file,
                "SELECT value || selection FROM latest_metrics WHERE run = 2 AND name = 'fid'") ==
        std::vector<std::string>{"1.5best:fid"});
}

TEST_CASE("migration: before version 7 networks computed on the CPU, whatever GPU was there",
          "[robustness][results]") {
  TempFolder folder;
  const auto file = fixture(folder, "v6.sqlite");
  const std::vector<std::string> facts{
      "SELECT run || name || teacher_s || held_bytes || peak_bytes FROM stages WHERE name <> 'sample' "
      "ORDER BY run",
      "SELECT run || rule || step || by_value FROM selections",
      "SELECT run || name || value || selection FROM latest_metrics ORDER BY id",
      "SELECT gpu FROM environments"};
  check_kept(file, facts);
  Store store(file);
  CHECK(rows_of(file,
                "SELECT DISTINCT gpu || ': ' || device || driver || repeatable || precision "
                "FROM run_machines") == std::vector<std::string>{"an idle GPU: cpu1fp32"});
  CHECK(rows_of(file, "SELECT count(*) FROM stages WHERE device_peak_bytes IS NOT NULL")[0] == "0");
  // The same machine on its GPU is another environment from now on.
  auto run = a_run("dynamic", 100);
  auto machine = an_environment();
  machine.cpu_features = "avx2 fma";
  machine.os = "Linux";
  machine.gpu = "an idle GPU";
  machine.libtorch = "2.15.0";
  machine.compiler = "g++ 12";
  machine.dkdm_version = "0.1.0";
  machine.git_revision = "abc";
  machine.threads_reason = "as many as cores";
  machine.memory_bytes = std::int64_t{8} << 30;
  store.begin_run(run, machine, {});
  CHECK(rows_of(file, "SELECT count(*) FROM environments")[0] == "1");
  run.seed = 101;
  machine.device = "cuda:0";
  store.begin_run(run, machine, {});
  CHECK(rows_of(file, "SELECT count(*) FROM environments")[0] == "2");
}

TEST_CASE("migration: copies of a file agree on the identity of its runs",
          "[robustness][results]") {
  TempFolder here, there;
  const auto a = fixture(here, "v1.sqlite"), b = fixture(there, "v1.sqlite");
  {
    Store first(a), second(b);
  }
  CHECK(rows_of(a, "SELECT uid FROM runs ORDER BY 1") ==
        rows_of(b, "SELECT uid FROM runs ORDER BY 1"));
}

TEST_CASE("migration: of processes that find an old file at once one migrates it",
          "[robustness][results]") {
  TempFolder folder;
  const auto file = fixture(folder, "v1.sqlite");
  std::vector<pid_t> children;
  for (int i = 0; i < 4; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      try {
        Store store(file);
        add_finished(store, a_run("dynamic", 100 + i), {a_metric("fid", i)});
        _exit(store.migration() ? 10 : 0);
      } catch (...) {
        _exit(1);
      }
    }
    children.push_back(child);
  }
  int migrated = 0;
  for (const pid_t child : children) {
    int status = 0;
    waitpid(child, &status, 0);
    CHECK((WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 10));
    migrated += WEXITSTATUS(status) == 10;
  }
  CHECK(migrated == 1);
  CHECK(rows_of(file, "SELECT count(*) FROM runs")[0] == "9");
  CHECK(fs::exists(file.string() + ".v1-backup"));
  CHECK_FALSE(fs::exists(file.string() + ".v1-backup-2"));
}

TEST_CASE("migration: a killed one leaves the old file, and the next one succeeds",
          "[robustness][results]") {
  TempFolder folder;
  const auto file = fixture(folder, "v1.sqlite");
  const auto before = rows_of(file, kSchemaSql);
  int unfinished = 0;
  for (int microseconds = 0; microseconds < 20'000; microseconds += 1'000) {
    const pid_t child = fork();
    if (child == 0) {
      Store store(file);
      _exit(0);
    }
    usleep(microseconds);
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    const bool old = rows_of(file, "PRAGMA user_version")[0] == "1";
    if (!old) break;
    ++unfinished;
    CHECK(rows_of(file, kSchemaSql) == before);
    CHECK(rows_of(file, "PRAGMA integrity_check")[0] == "ok");
  }
  CHECK(unfinished > 0);
  Store store(file);
  CHECK(rows_of(file, "SELECT count(*) FROM runs")[0] == "5");
  CHECK(rows_of(file, "PRAGMA user_version")[0] == "8");
}

TEST_CASE("migration: a file that cannot be copied stays as it is", "[robustness][results]") {
  TempFolder folder;
  const auto file = fixture(folder, "v1.sqlite");
  // The copy's name, and every other like it, is a folder that cannot be replaced.
  fs::create_directories(file.string() + ".v1-backup.part/full");
  CHECK_THROWS_AS(Store(file), StoreError);
  CHECK(rows_of(file, "PRAGMA user_version")[0] == "1");
  fs::remove_all(file.string() + ".v1-backup.part");
  CHECK(Store(file).migration()->from == 1);
}

TEST_CASE("migration: before version 8 nobody asked for graphs", "[robustness][results]") {
  TempFolder folder;
  const auto file = fixture(folder, "v7.sqlite");
  const std::vector<std::string> facts{
      "SELECT run || name || teacher_s || device_peak_bytes FROM stages WHERE name <> 'sample' "
      "ORDER BY run",
      "SELECT device || driver || repeatable FROM environments",
      "SELECT run || name || value || selection FROM latest_metrics ORDER BY id"};
  check_kept(file, facts);
  Store store(file);
  CHECK(rows_of(file, "SELECT device || driver FROM environments") ==
        std::vector<std::string>{"cuda:0580.65"});
  CHECK(rows_of(file, "SELECT DISTINCT graphs FROM stages") == std::vector<std::string>{""});
}
