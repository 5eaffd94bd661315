// The schema's page is up to date, every view has an example that runs, and views say what they
// should.
#include <catch2/catch.hpp>

#include <set>

#include "results/query/query.hpp"
#include "results/query/runs.hpp"
#include "results/query/schema_doc.hpp"
#include "results/store/examples.hpp"
#include "results_support.hpp"

using namespace dkdm;
using namespace dkdm::results;
using namespace dkdm::results::testing;

namespace {

std::string csv(const std::filesystem::path& file, const std::string& sql) {
  return query(file, sql).render(Format::csv);
}

// An experiment's file as its loader completes it, as far as views look.
std::string a_config(const std::string& row, const std::string& method) {
  return "[experiment]\nname = \"e\"\n[dataset]\nplugin = \"cifar10\"\nsize = 32\n"
         "[teacher]\nplugin = \"checkpoint\"\n[teacher.student]\nplugin = \"dit\"\n"
         "[synthetic]\nsampler = \"ancestral\"\nrespacing = \"25\"\n"
         "[[row]]\nid = \"other\"\n[row.method]\nplugin = \"dynamic\"\nrho = 0.9\n"
         "[[row]]\nid = \"" +
         row + "\"\n[row.method]\n" + method +
         "[row.train]\nlr = 0.002\nsteps = 200\nflip = true\nbetas = [1, 2]\n";
}

record::StageRecord a_stage(const std::string& name, const std::string& key, std::int64_t steps,
                            std::int64_t teacher_evaluations) {
  record::StageRecord stage;
  stage.name = name;
  stage.key = key;
  stage.steps = steps;
  stage.elapsed_s = 60;
  stage.teacher_evaluations = teacher_evaluations;
  return stage;
}

// A finished run of an experiment of `shape`, evaluated at `steps`: FID is 1000 / step + seed.
std::int64_t add_run(Store& store, const std::string& shape, const std::string& row,
                     const std::string& method, std::int64_t seed,
                     const std::vector<std::int64_t>& steps) {
  auto run = a_run(row, seed);
  run.experiment = shape;
  run.table = shape;
  run.key = shape + row + std::to_string(seed);
  run.published_section = shape == "table5" ? "table5" : "table2.cifar10";
  run.published_row = shape == "table5" ? "vit-cnn-dynamic" : row;
  run.config = a_config(row, method);
  const auto id = store.begin_run(run, an_environment(), {});
  store.record_stage(id, a_stage("synthetic", "set", 8192, 8192 * 25));
  store.record_stage(id, a_stage("pool", "pool" + run.key, 0, 1000));
  auto train = a_stage("train", "train" + run.key, 200, 400);
  train.flops = 6e12;
  store.record_stage(id, train);
  store.record_curves("train" + run.key, {{"loss", 1, 1.0}, {"loss", 2, 0.5}});
  for (const auto step : steps) {
    std::vector<record::MetricRecord> metrics = {a_metric("fid", 1000. / step + seed),
                                                 a_metric("sfid", 500. / step), a_metric("is", 2)};
    metrics[2].reference = "";
    for (auto& metric : metrics) metric.step = step;
    store.record_metrics(id, metrics);
  }
  store.end_run(id, "done", "", "");
  return id;
}

}  // namespace

TEST_CASE("schema: the page is what the SQL says", "[unit][results]") {
  INFO("to renew it: dkdm db schema --format markdown > results/schema.md");
  const bool up_to_date = read_file(DKDM_SOURCE_DIR "/results/schema.md") == schema_markdown();
  CHECK(up_to_date);
}

TEST_CASE("schema: every column of every table has a meaning", "[unit][results]") {
  std::istringstream lines(schema_markdown());
  int columns = 0, explained = 0;
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("| `")) continue;
    ++columns;
    explained += line.find("|  |") == std::string::npos;
  }
  CHECK(columns > 100);
  CHECK(explained > columns / 2);  // the others' names say it: host, os, bytes
}

TEST_CASE("schema: every view has an example, and each example answers", "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  for (const char* shape : {"table2", "table3", "table5", "figure4a", "figure4b", "section10"}) {
    add_run(store, shape, "dynamic", "plugin = \"dynamic\"\nrho = 0.4\n", 0, {100, 200});
  }
  store.record_selection(1, {"best:fid", 100, 200, 2, a_metric("fid", 10)});
  const auto failed = store.begin_run(a_run("data_free"), an_environment(), {});
  store.end_run(failed, "failed", "train", "loss is not finite");
  store.begin_run(a_run("shuffled"), an_environment(), {{"student", "adm-unet", "1", "", ""}});
  const auto request = store.begin_request(a_run("iterative"), "dkdm run desk.toml");
  store.add_to_request(request, {a_run("iterative")});
  std::set<std::string> explained;
  for (const auto& example : query_examples()) {
    INFO(example.sql);
    CHECK(query(file, example.sql).rows.size() >= 1);
    CHECK(contains(example.sql, example.view));
    explained.insert(example.view);
  }
  const auto views = query(file, "SELECT name FROM sqlite_schema WHERE type = 'view'");
  REQUIRE(views.rows.size() >= 13);
  for (const auto& view : views.rows) {
    INFO(*view[0].text);
    CHECK(explained.count(*view[0].text) == 1);
  }
}

TEST_CASE("schema: a run's settings are its row's, with the shared ones, as numbers and text",
          "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  add_run(store, "table2", "dynamic", "plugin = \"dynamic\"\nrho = 0.4\n", 0, {200});
  CHECK(csv(file,
            "SELECT key, value, number FROM settings WHERE key LIKE 'method.%' OR "
            "key LIKE 'train.%' OR key LIKE 'dataset.%' OR key LIKE 'teacher.%'") ==
        "key,value,number\r\n"
        "dataset.plugin,cifar10,\r\ndataset.size,32,32\r\nmethod.plugin,dynamic,\r\n"
        "method.rho,0.4,0.4\r\nteacher.plugin,checkpoint,\r\nteacher.student.plugin,dit,\r\n"
        "train.betas,\"[ 1, 2 ]\",\r\ntrain.flip,true,\r\ntrain.lr,0.002,0.002\r\n"
        "train.steps,200,200\r\n");
  CHECK(query(file, "SELECT 1 FROM settings WHERE key LIKE 'row%' OR key LIKE 'experiment.name%'")
            .rows.empty());
}

TEST_CASE("views: a value that counts is the newest of the last step", "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  const auto id = add_run(store, "table2", "dynamic", "", 0, {200, 100});  // in any order
  CHECK(csv(file, "SELECT step, fid FROM cells") == "step,fid\r\n200,5\r\n");
  auto again = a_metric("fid", 7);
  again.step = 200;
  store.record_metrics(id, {again});
  CHECK(csv(file, "SELECT fid FROM table2") == "fid\r\n7\r\n");
  CHECK(csv(file, "SELECT count(*) AS n FROM latest_metrics WHERE name = 'fid'") == "n\r\n1\r\n");
  remove_run(file, id);
  CHECK(csv(file, "SELECT count(*) AS n FROM latest_values") == "n\r\n0\r\n");
}

TEST_CASE("views: each table and figure shows the experiments of its shape", "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  for (const char* shape : {"table2", "table3", "table5", "figure4a", "figure4b"}) {
    add_run(store, shape, "dynamic", "plugin = \"dynamic\"\nrho = 0.4\n", 1, {100, 200});
  }
  for (const std::string shape : {"table2", "table3", "table5", "figure4a", "figure4b"}) {
    CHECK(csv(file, "SELECT DISTINCT experiment FROM " + shape) ==
          "experiment\r\n" + shape + "\r\n");
  }
  // Published values: DKDM (CVPR 2025), tables 2, 4 and 5.
  CHECK(csv(file,
            "SELECT inception_score, fid, sfid, published_is, published_fid, published_sfid "
            "FROM table2") ==
        "inception_score,fid,sfid,published_is,published_fid,published_sfid\r\n"
        "2,6,2.5,8.6,9.56,11.77\r\n");
  CHECK(csv(file,
            "SELECT images, sampler, respacing, teacher_evaluations, runs, published_images, "
            "published_steps FROM table4") ==
        "images,sampler,respacing,teacher_evaluations,runs,published_images,published_steps\r\n"
        "8192,ancestral,25,204800,5,50000,1000\r\n");
  CHECK(csv(file, "SELECT teacher, student, fid, published_fid FROM table5") ==
        "teacher,student,fid,published_fid\r\ndit,adm-unet,6,13.17\r\n");
  // Half of the training has half of its 400 teacher evaluations, and all of what was prepared: a
  // batch set of 1000 and a synthetic set of 204800.
  CHECK(csv(file, "SELECT step, fid, teacher_evaluations FROM figure4a") ==
        "step,fid,teacher_evaluations\r\n100,11,206000\r\n200,6,206200\r\n");
  CHECK(csv(file, "SELECT rho, step, fid FROM figure4b") ==
        "rho,step,fid\r\n0.4,100,11\r\n0.4,200,6\r\n");
}

TEST_CASE("schema: section10 leaves the first sixth of a training out of its rates",
          "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  auto run = a_run("dynamic");
  run.table = "section10";
  run.config = a_config("dynamic", "plugin = \"dynamic\"\nrho = 0.4\n") + "batch = 128\n";
  const auto id = store.begin_run(run, an_environment(), {});
  auto stage = a_stage("train", "k", 1200, 153600);
  stage.elapsed_s = 100;
  stage.teacher_s = 25;
  stage.held_bytes = 6e8;
  stage.peak_bytes = 2'000'000'000;
  store.record_stage(id, stage);
  std::vector<record::CurvePoint> points{{"step_seconds", 1, 50.0}};
  for (std::int64_t step = 100; step <= 1200; step += 100)
    points.push_back({"step_seconds", step, step <= 200 ? 9.0 : 0.05});
  store.record_curves("k", points);
  store.end_run(id, "done", "", "");
  CHECK(
      csv(file,
          "SELECT rho, batch, steps, peak_bytes, held_bytes, round(steps_per_second, 6) AS steps_s, "
          "round(examples_per_second, 3) AS examples_s, teacher_share, device FROM section10") ==
      "rho,batch,steps,peak_bytes,held_bytes,steps_s,examples_s,teacher_share,device\r\n"
      "0.4,128,1200,2000000000,6e+08,20,2560,0.25,two slow cores\r\n");
}

TEST_CASE("schema: section10 names what computed, and its memory", "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  std::int64_t seed = 0;
  const auto add = [&](const record::EnvironmentRecord& machine, std::optional<double> bytes) {
    auto run = a_run("dynamic", seed);
    run.table = "section10";
    const auto id = store.begin_run(run, machine, {});
    auto stage = a_stage("train", "k" + std::to_string(seed++), 100, 0);
    stage.peak_bytes = 1000;
    stage.device_peak_bytes = bytes;
    store.record_stage(id, stage);
    store.end_run(id, "done", "", "");
  };
  auto machine = a_gpu_environment();
  add(machine, 5e9);
  machine.device = "cpu";  // its GPU was idle
  machine.driver = "";
  add(machine, {});
  machine.device = "cuda:1";
  machine.gpu = "";  // a GPU whose name is not known
  add(machine, 6e9);
  CHECK(csv(file, "SELECT seed, device, peak_bytes, device_peak_bytes FROM section10") ==
        "seed,device,peak_bytes,device_peak_bytes\r\n0,NVIDIA H200,1000,5e+09\r\n"
        "1,many cores,1000,\r\n2,cuda:1,1000,6e+09\r\n");
}

TEST_CASE("views: run_machines has the device and the precision of the training",
          "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  const auto add = [&](const std::string& row, const std::string& config, bool repeatable) {
    auto run = a_run(row);
    run.config = config;
    auto machine = a_gpu_environment();
    machine.repeatable = repeatable;
    store.begin_run(run, machine, {});
  };
  const std::string both = "[train]\nprecision = \"bf16\"\n[teacher.train]\nprecision = \"tf32\"\n";
  add("dynamic", both, true);
  add("teacher", both, false);  // what was trained is the teacher
  add("iterative", "[train]\nsteps = 100\n", true);
  CHECK(csv(file, "SELECT row, gpu, device, driver, repeatable, precision FROM run_machines") ==
        "row,gpu,device,driver,repeatable,precision\r\n"
        "dynamic,NVIDIA H200,cuda:0,570.86,1,bf16\r\n"
        "teacher,NVIDIA H200,cuda:0,570.86,0,tf32\r\n"
        "iterative,NVIDIA H200,cuda:0,570.86,1,fp32\r\n");
}

TEST_CASE("views: costs has the rate of a training and the teacher's share of it",
          "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  auto run = a_run("dynamic");
  run.config = "[train]\nbatch = 64\n[teacher.train]\nbatch = 32\n";
  const auto id = store.begin_run(run, a_gpu_environment(), {});
  auto teacher = a_stage("teacher", "t", 600, 0), pool = a_stage("pool", "p", 0, 1000),
       train = a_stage("train", "s", 300, 19200);  // each took 60 s
  teacher.device_peak_bytes = 1e9;
  train.device_peak_bytes = 2e9;
  train.teacher_s = 15;
  for (const auto& stage : {teacher, pool, train}) store.record_stage(id, stage);
  CHECK(csv(file,
            "SELECT stage, examples_per_s, teacher_share, device_peak_bytes FROM costs "
            "ORDER BY stage") ==
        "stage,examples_per_s,teacher_share,device_peak_bytes\r\n"
        "pool,,,\r\nteacher,320,,1e+09\r\ntrain,320,0.25,2e+09\r\n");

  // A training that did not come to its end has none, nor one that took no time.
  const auto failing = store.begin_run(a_run("iterative"), a_gpu_environment(), {});
  auto failed = a_stage("train", "f", 0, 0);
  failed.status = record::StageStatus::failed;
  store.record_stage(failing, failed);
  auto untimed = a_stage("teacher", "u", 600, 0);
  untimed.elapsed_s = 0;
  store.record_stage(failing, untimed);
  CHECK(csv(file, "SELECT count(*) AS n, count(examples_per_s) AS rates FROM costs WHERE run = " +
                      std::to_string(failing)) == "n,rates\r\n2,0\r\n");
}

TEST_CASE("views: a shared stage's cost is shared", "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  for (int seed = 0; seed < 4; ++seed) add_run(store, "table2", "dynamic", "", seed, {200});
  CHECK(csv(file,
            "SELECT stage, sum(elapsed_s / shared_by) AS seconds, max(shared_by) AS runs, "
            "sum(student_steps) AS steps FROM costs GROUP BY stage") ==
        "stage,seconds,runs,steps\r\npool,240,1,0\r\nsynthetic,60,4,0\r\ntrain,240,1,800\r\n");
  // What was not counted is not zero.
  CHECK(csv(file, "SELECT stage, sum(flops) AS flops FROM costs GROUP BY stage") ==
        "stage,flops\r\npool,\r\nsynthetic,\r\ntrain,2.4e+13\r\n");
}
