// Databases of several machines become one; runs travel as archives; what no run names is
// collected.
#include <sys/wait.h>
#include <catch2/catch.hpp>

#include <tuple>

#include "artifact_support.hpp"
#include "results/admin/check.hpp"
#include "results/admin/collect.hpp"
#include "results/admin/export.hpp"
#include "results/admin/merge.hpp"
#include "results/query/query.hpp"
#include "results/query/runs.hpp"

using namespace dkdm;
using namespace dkdm::results;
using namespace dkdm::results::testing;

namespace {

namespace fs = std::filesystem;

std::string csv(const fs::path& file, const std::string& sql) {
  return query(file, sql).render(Format::csv);
}

// All facts of a database, without what only this file knows (its row numbers).
std::string facts(const fs::path& file) {
  std::string text;
  for (
      const char* sql :
      {"SELECT r.uid, e.name, r.key, r.row, r.seed, r.config FROM runs r JOIN experiments e ON "
       "e.id = r.experiment ORDER BY 1",
       "SELECT r.uid, s.key, s.value FROM settings s JOIN runs r ON r.id = s.run ORDER BY 1, 2",
       "SELECT r.uid, a.started, a.status, e.cpu, e.gpu, e.device, e.driver, e.repeatable FROM attempts a JOIN runs r ON r.id = a.run JOIN "
       "environments e ON e.id = a.environment ORDER BY 1, 2",
       "SELECT r.uid, p.name FROM attempt_plugins u JOIN attempts a ON a.id = u.attempt JOIN runs r "
       "ON r.id = a.run JOIN plugins p ON p.id = u.plugin ORDER BY 1, 2",
       "SELECT r.uid, s.name, s.key, s.status, s.peak_bytes, s.device_peak_bytes FROM stages s JOIN runs r ON r.id = s.run ORDER BY 1, 2",
       "SELECT * FROM determinants", "SELECT * FROM curves",
       "SELECT r.uid, m.name, m.value, m.recorded FROM metrics m JOIN runs r ON r.id = m.run "
       "ORDER BY 1, 2, 3",
       "SELECT key, kind, path, sha256 FROM artifacts ORDER BY path, sha256"}) {
    text += csv(file, sql);
  }
  return text;
}

struct Home {
  TempFolder folder;
  fs::path root = folder.path(), database = root / "results.sqlite";
};

}  // namespace

TEST_CASE("merge: commands and pins come along, once, and a pin of ours stays", "[unit][results]") {
  Home here, there;
  Store ours(here.database), theirs(there.database);
  add_made(ours, here.root, "dynamic", 0, 9);
  add_made(theirs, there.root, "dynamic", 0, 10);
  add_made(theirs, there.root, "dynamic", 1, 11);
  theirs.add_to_request(theirs.begin_request(a_run("dynamic"), "dkdm run desk.toml --seeds 0-1"),
                        {a_run("dynamic", 0), a_run("dynamic", 1)});
  pin_run(here.database, 1, "ours");
  pin_run(there.database, 1, "theirs, of the same row and seed");
  pin_run(there.database, 2, "theirs");
  for (int time = 0; time < 2; ++time) {
    merge_database(here.database, here.root, there.root);
    CHECK(csv(here.database, "SELECT command, count(*) AS cells FROM asked GROUP BY command") ==
          "command,cells\r\ndkdm run desk.toml --seeds 0-1,2\r\n");
    CHECK(csv(here.database, "SELECT note FROM pins ORDER BY note") ==
          "note\r\nours\r\ntheirs\r\n");
    CHECK(csv(here.database, "SELECT count(*) AS n FROM configs") == "n\r\n1\r\n");
  }
  CHECK_THROWS_WITH(pin_run(here.database, 99, ""), Catch::Contains("no run 99"));
  CHECK(pin_run(here.database, 2, "another of row dynamic, seed 0") == 1);
}

TEST_CASE("merge: two machines' runs stand in one database, with their artifacts",
          "[unit][results]") {
  Home here, there;
  Store ours(here.database), theirs(there.database);
  add_made(ours, here.root, "dynamic", 0, 9);
  add_made(theirs, there.root, "dynamic", 1, 10);
  add_made(theirs, there.root, "iterative", 0, 12);
  const auto failed = theirs.begin_run(a_run("shuffled"), an_environment(), {});
  theirs.end_run(failed, "failed", "train", "loss is not finite");

  const auto report = merge_database(here.database, here.root, there.root);
  CHECK(report.conflicts.empty());
  CHECK(csv(here.database, "SELECT row, seed, fid FROM table2 ORDER BY row, seed") ==
        "row,seed,fid\r\ndynamic,0,9\r\ndynamic,1,10\r\niterative,0,12\r\n");
  CHECK(csv(here.database, "SELECT message FROM failures") == "message\r\nloss is not finite\r\n");
  for (const char* path : {"artifacts/train/traindynamic1/deep/data.bin",
                           "artifacts/evaluate/evaluateiterative0/manifest.json"}) {
    CHECK(read_file(here.root / path) == read_file(there.root / path));
    CHECK(!read_file(here.root / path).empty());
  }
  // And what came can be found as if it had been made here.
  auto run = a_run("dynamic", 1);
  run.key = "evaluatedynamic1";
  CHECK(ours.finished_run(run));
}

TEST_CASE("merge: twice adds nothing, and the order does not matter", "[unit][results]") {
  Home a, b, ab, ba;
  {
    Store first(a.database), second(b.database);
    add_made(first, a.root, "dynamic", 0, 9);
    add_made(second, b.root, "dynamic", 1, 10);
  }
  CHECK(merge_database(ab.database, ab.root, a.database).total() > 0);
  merge_database(ab.database, ab.root, b.database);
  merge_database(ba.database, ba.root, b.database);
  merge_database(ba.database, ba.root, a.database);
  CHECK(facts(ab.database) == facts(ba.database));
  const auto before = facts(ab.database);
  for (const auto& source : {a.root, b.root, ba.root, ab.root}) {
    const auto report = merge_database(ab.database, ab.root, source);
    CHECK(report.total() == 0);
    CHECK(report.conflicts.empty());
  }
  CHECK(facts(ab.database) == before);
  CHECK(fs::is_empty(ab.root / "work"));
}

TEST_CASE("merge: runs stay on the device that they were made on", "[unit][results]") {
  Home here, there;
  Store ours(here.database), theirs(there.database);
  // The same machine but for what its networks computed on.
  const auto add = [](Store& store, std::int64_t seed, const record::EnvironmentRecord& machine,
                      std::optional<double> device_bytes) {
    const auto id = store.begin_run(a_run("dynamic", seed), machine, {});
    record::StageRecord train;
    train.name = "train";
    train.key = "t" + std::to_string(seed);
    train.device_peak_bytes = device_bytes;
    store.record_stage(id, train);
    store.record_metrics(id, {a_metric("fid", 9)});
    store.end_run(id, "done", "", "");
  };
  auto machine = a_gpu_environment();
  add(theirs, 1, machine, 2e9);
  machine.repeatable = false;
  add(theirs, 2, machine, 3e9);
  machine.driver = "580.1";
  add(theirs, 3, machine, 4e9);
  machine = a_gpu_environment();
  machine.device = "cpu";
  add(ours, 0, machine, {});
  for (int time = 0; time < 2; ++time) {
    merge_database(here.database, here.root, there.root);
    CHECK(csv(here.database,
              "SELECT m.seed, m.device, m.driver, m.repeatable, c.device_peak_bytes AS bytes "
              "FROM run_machines m JOIN costs c ON c.run = m.run ORDER BY m.seed") ==
          "seed,device,driver,repeatable,bytes\r\n0,cpu,570.86,1,\r\n1,cuda:0,570.86,1,2e+09\r\n"
          "2,cuda:0,570.86,0,3e+09\r\n3,cuda:0,580.1,0,4e+09\r\n");
    CHECK(csv(here.database, "SELECT count(*) AS n FROM environments") == "n\r\n4\r\n");
    CHECK(csv(here.database, "SELECT count(*) AS n FROM attempts") == "n\r\n4\r\n");
  }
  // What failed there and was made since, on a GPU, comes with its memory.
  auto again = a_run("iterative");
  const auto id = theirs.begin_run(again, a_gpu_environment(), {});
  record::StageRecord train;
  train.name = "train";
  train.key = "again";
  train.status = record::StageStatus::failed;
  theirs.record_stage(id, train);
  merge_database(here.database, here.root, there.root);
  train.status = record::StageStatus::done;
  train.device_peak_bytes = 5e9;
  train.graphs = "student recorded";
  theirs.record_stage(id, train);
  merge_database(here.database, here.root, there.root);
  CHECK(csv(here.database,
            "SELECT status, device_peak_bytes AS bytes, graphs FROM stages WHERE key = 'again'") ==
        "status,bytes,graphs\r\ndone,5e+09,student recorded\r\n");
}

TEST_CASE("merge: a run that went on elsewhere is continued here", "[unit][results]") {
  Home here, there;
  {
    Store store(there.database);
    store.begin_run(a_run("dynamic"), an_environment(), {});
  }
  merge_database(here.database, here.root, there.root);
  CHECK(csv(here.database, "SELECT status FROM run_status") == "status\r\nrunning\r\n");
  Store store(there.database);
  const auto id = store.begin_run(a_run("dynamic"), an_environment(), {});
  store.record_metrics(id, {a_metric("fid", 5)});
  store.end_run(id, "done", "", "");
  merge_database(here.database, here.root, there.root);
  CHECK(csv(here.database, "SELECT status FROM attempts ORDER BY id") ==
        csv(there.database, "SELECT status FROM attempts ORDER BY id"));
  CHECK(csv(here.database, "SELECT fid FROM table2") == "fid\r\n5\r\n");
  CHECK(csv(here.database, "SELECT count(*) AS n FROM runs") == "n\r\n1\r\n");
}

TEST_CASE("merge: the same key with another content is reported, and ours is kept",
          "[unit][results]") {
  Home here, there;
  Store ours(here.database), theirs(there.database);
  add_made(ours, here.root, "dynamic", 0, 9, "ours");
  add_made(theirs, there.root, "dynamic", 0, 11, "theirs");
  const auto before = read_file(here.root / "artifacts/train/traindynamic0/deep/data.bin");
  for (int i = 0; i < 2; ++i) {
    const auto report = merge_database(here.database, here.root, there.root);
    std::string conflicts;
    for (const auto& conflict : report.conflicts) conflicts += conflict + "\n";
    CHECK(contains(conflicts, "artifacts/train/traindynamic0 has another content there"));
    CHECK(contains(conflicts, "curve loss of stage traindynamic0 differs in 1 points"));
    CHECK((i == 0) == (report.total() > 0));
  }
  CHECK(read_file(here.root / "artifacts/train/traindynamic0/deep/data.bin") == before);
  CHECK(csv(here.database, "SELECT value FROM curves WHERE step = 2") == "value\r\n9\r\n");
  CHECK(csv(here.database, "SELECT value FROM metrics ORDER BY value") ==
        "value\r\n9\r\n11\r\n");  // both runs are on record
}

TEST_CASE("merge: a damaged artifact is not copied", "[unit][results]") {
  Home here, there;
  {
    Store theirs(there.database);
    add_made(theirs, there.root, "dynamic", 0, 9);
  }
  const fs::path train = "artifacts/train/traindynamic0";
  write_file(there.root / train / "deep/data.bin", "xdynamic0");  // as long as what was there
  const auto report = merge_database(here.database, here.root, there.root);
  CHECK(report.conflicts.empty());
  REQUIRE(report.damaged.size() == 1);
  CHECK(contains(report.damaged[0],
                 "artifacts/train/traindynamic0 is damaged there and was not copied"));
  CHECK_FALSE(fs::exists(here.root / train));
  CHECK(fs::exists(here.root / "artifacts/sample/sampledynamic0"));
}

TEST_CASE("merge: a manifest cannot make it read or write outside the store", "[unit][results]") {
  Home here, there;
  {
    Store theirs(there.database);
    add_made(theirs, there.root, "dynamic", 0, 9);
  }
  const fs::path manifest = there.root / "artifacts/train/traindynamic0/manifest.json";
  auto text = read_file(manifest);
  text.replace(text.find("deep/data.bin"), 13, "../../../secret");
  write_file(manifest, text);
  write_file(there.root / "secret", "wdynamic0");
  const auto report = merge_database(here.database, here.root, there.root);
  CHECK(report.damaged.size() == 1);
  CHECK_FALSE(fs::exists(here.root / "secret"));
  CHECK_FALSE(fs::exists(here.root / "artifacts/train"));
}

TEST_CASE("merge: an older database is taken and stays as it is; no database is named",
          "[unit][results]") {
  Home here, there;
  fs::copy_file(DKDM_SOURCE_DIR "/tests/fixtures/databases/v1.sqlite", there.database);
  const auto before = read_file(there.database);
  CHECK(merge_database(here.database, here.root, there.database).total() > 0);
  CHECK(merge_database(here.database, here.root, there.database).total() == 0);
  CHECK(read_file(there.database) == before);
  CHECK(csv(here.database, "SELECT count(*) AS n FROM runs") == "n\r\n5\r\n");
  CHECK(check_database(here.database, here.root)
            .sound());  // artifacts that did not come are not missed
  CHECK_THROWS_WITH(merge_database(here.database, here.root, here.root / "absent"),
                    Catch::Contains("absent: no such file"));
  write_file(here.root / "notes.tar", std::string(2000, 'n'));
  CHECK_THROWS_WITH(merge_database(here.database, here.root, here.root / "notes.tar"),
                    Catch::Contains("not an archive"));
}

TEST_CASE("export: an archive holds the run, and another machine takes it", "[unit][results]") {
  Home here, there;
  Store store(here.database);
  add_made(store, here.root, "iterative", 0, 12);
  const auto id = add_made(store, here.root, "dynamic", 3, 9);
  const auto archive = here.root / "run.tar";
  export_run(here.database, here.root, id, archive);
  CHECK_FALSE(fs::exists(archive.string() + ".part"));
  const auto report = merge_database(there.database, there.root, archive);
  CHECK(report.conflicts.empty());
  CHECK(csv(there.database, "SELECT row, seed, fid FROM table2") ==
        "row,seed,fid\r\ndynamic,3,9\r\n");
  CHECK(csv(there.database, "SELECT name, step, value FROM curves") ==
        "name,step,value\r\nloss,1,1\r\nloss,2,9\r\n");
  for (const char* kind : {"train", "sample", "evaluate"}) {
    const auto path = fs::path("artifacts") / kind / (std::string(kind) + "dynamic3/manifest.json");
    CHECK(read_file(there.root / path) == read_file(here.root / path));
  }
  CHECK_FALSE(fs::exists(there.root / "artifacts/train/trainiterative0"));
  CHECK(check_database(there.database, there.root, {.hash = true}).sound());
  CHECK(merge_database(there.database, there.root, archive).total() == 0);
  CHECK(merge_database(here.database, here.root, archive).total() == 0);

  CHECK_THROWS_WITH(export_run(here.database, here.root, 99, archive),
                    Catch::Contains("no run 99"));
  fs::remove_all(here.root / "artifacts/sample/sampledynamic3");
  CHECK_THROWS_WITH(export_run(here.database, here.root, id, archive),
                    Catch::Contains("sampledynamic3: cannot be exported: it is missing"));
}

TEST_CASE("gc: what no run names goes, and nothing else", "[unit][results]") {
  Home home;
  Store store(home.database);
  add_made(store, home.root, "dynamic", 0, 9);
  const auto gone = add_made(store, home.root, "iterative", 0, 12);
  add_artifact(home.root, "train", "traindynamic0.earlier-1", {{"data", "old"}});
  CHECK(find_garbage(home.database, home.root).size() == 1);  // what --force set aside
  remove_run(home.database, gone);
  const auto garbage = find_garbage(home.database, home.root);
  std::string listed;
  for (const auto& folder : garbage) {
    listed += folder.path + " ";
    CHECK(folder.bytes > 0);
  }
  CHECK(listed ==
        "artifacts/evaluate/evaluateiterative0 artifacts/sample/sampleiterative0 "
        "artifacts/train/traindynamic0.earlier-1 artifacts/train/trainiterative0 ");

  const auto bytes = delete_garbage(home.database, home.root, garbage);
  std::int64_t announced = 0;
  for (const auto& folder : garbage) announced += folder.bytes;
  CHECK(bytes == announced);
  CHECK(find_garbage(home.database, home.root).empty());
  CHECK(fs::exists(home.root / "artifacts/train/traindynamic0/deep/data.bin"));
  CHECK(csv(home.database, "SELECT count(*) AS n FROM artifacts") == "n\r\n3\r\n");

  store.begin_run(a_run("shuffled"), an_environment(), {});
  CHECK_THROWS_WITH(find_garbage(home.database, home.root), Catch::Contains("is being written"));
}

TEST_CASE("diff: a setting that enters a key is told from one that does not", "[unit][results]") {
  Home home;
  Store store(home.database);
  const auto add = [&](std::int64_t seed, const std::string& lr, const std::string& log_every,
                       const std::string& respacing) {
    auto run = a_run("dynamic", seed);
    run.key += lr + log_every + respacing;
    run.config = "[[row]]\nid = \"dynamic\"\n[row.train]\nlr = " + lr +
                 "\nlog_every = " + log_every + "\n[row.sample]\nrespacing = \"" + respacing +
                 "\"\n";
    const auto id = store.begin_run(run, an_environment(), {});
    record::StageRecord train, sample;
    train.name = "train";
    train.determined_by = {{"train", "batch = 64\nlr = " + lr + "\n"},
                           {"seed", std::to_string(seed)}};
    train.key = "t" + lr + std::to_string(seed);
    sample.name = "sample";
    sample.key = "s" + respacing + train.key;
    sample.determined_by = {{"network", train.key},
                            {"sampling", "ancestral eta 0.0 clip true respacing " + respacing +
                                             " count 512 seed " + std::to_string(seed)}};
    store.record_stage(id, train);
    store.record_stage(id, sample);
    return id;
  };
  const auto base = add(0, "0.001", "20", "25");
  const auto diff = [&](std::int64_t other) {
    return runs_diff(home.database, base, other).render(Format::csv);
  };
  const auto logged = diff(add(0, "0.001", "10", "25"));
  CHECK(contains(logged, "setting train.log_every,20,10,no\r\n"));
  const auto slower = diff(add(0, "0.002", "10", "25"));
  CHECK(contains(slower, "setting train.lr,0.001,0.002,train\r\n"));
  CHECK(contains(slower, "setting train.log_every,20,10,no\r\n"));
  CHECK(contains(slower, "differs in train\r\n"));
  CHECK(contains(slower, "differs in network\r\n"));
  CHECK(contains(diff(add(0, "0.001", "20", "50")), "setting sample.respacing,25,50,sample\r\n"));
  CHECK(contains(diff(add(7, "0.001", "20", "25")), "run seed,0,7,\"sample, train\"\r\n"));
}

TEST_CASE("diff: keeping weights on the way enters the training's key", "[unit][results]") {
  Home home;
  Store store(home.database);
  const auto add = [&](const std::string& every) {
    auto run = a_run("dynamic");
    run.key += every;
    run.config =
        "[evaluate]\nevery = " + every + "\n[[row]]\nid = \"dynamic\"\n[row.train]\nlr = 1\n";
    const auto id = store.begin_run(run, an_environment(), {});
    record::StageRecord train;
    train.name = "train";
    train.determined_by = {{"train", "lr = 1\n"}};
    if (every != "0") train.determined_by.emplace_back("kept", "ema every " + every);
    train.key = "t" + every;
    store.record_stage(id, train);
    return id;
  };
  const auto off = add("0"), often = add("80"), seldom = add("160");
  for (const auto& [a, b, values] :
       {std::tuple(off, often, "0,80"), std::tuple(often, seldom, "80,160")}) {
    const auto csv = runs_diff(home.database, a, b).render(Format::csv);
    CHECK(contains(csv, std::string("setting evaluate.every,") + values + ",train\r\n"));
  }
}
