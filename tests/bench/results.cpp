// The results database at size: 10,000 runs of every shape of table and figure, 10 million curve
// points.
//
//     build/tests/bench/bench-results [--benchmark_filter=view/] [--benchmark_out=FILE]
//
// BENCH_DATABASE names the file (default bench.sqlite in the working folder); it is made when
// absent.
#include <benchmark/benchmark.h>
#include <sqlite3.h>

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "results/query/query.hpp"
#include "results/query/runs.hpp"
#include "results/report/report.hpp"
#include "results/store/examples.hpp"
#include "results/store/store.hpp"

namespace {

namespace fs = std::filesystem;
using namespace dkdm;

constexpr int kRuns = 10'000, kPointsOfRun = 1'000;

fs::path database() {
  const char* name = std::getenv("BENCH_DATABASE");
  return name != nullptr ? name : "bench.sqlite";
}

using Connection = std::unique_ptr<sqlite3, int (*)(sqlite3*)>;

Connection open(const fs::path& file, int flags) {
  sqlite3* db = nullptr;
  if (sqlite3_open_v2(file.c_str(), &db, flags, nullptr) != SQLITE_OK) {
    std::cerr << file << ": " << sqlite3_errmsg(db) << '\n';
    std::exit(1);
  }
  return {db, sqlite3_close};
}

void execute(sqlite3* db, const std::string& sql) {
  char* message = nullptr;
  if (sqlite3_exec(db, sql.c_str(), nullptr, nullptr, &message) != SQLITE_OK) {
    std::cerr << message << "\n" << sql << '\n';
    std::exit(1);
  }
}

// Ten experiments of eight rows and 125 seeds, 72 settings a run; those of the figures are
// evaluated at twenty steps, the others once; every twentieth run failed. One transaction.
void generate(const fs::path& file) {
  {
    results::Store schema(file);
  }
  const auto db = open(file, SQLITE_OPEN_READWRITE);
  const auto numbers = [](int count) {
    return "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < " +
           std::to_string(count) + ") ";
  };
  execute(db.get(), "PRAGMA synchronous = OFF; PRAGMA cache_size = -262144; BEGIN");
  execute(
      db.get(),
      numbers(10) +
          "INSERT INTO experiments SELECT i + 1, 'experiment' || i, 'Title', CASE i WHEN 6 THEN "
          "'table3' WHEN 7 THEN 'table5' WHEN 8 THEN 'figure4a' WHEN 9 THEN 'figure4b' ELSE 'table2' "
          "END, 'table2.cifar10', 'desk', 'file.toml' FROM n");
  execute(db.get(),
          "INSERT INTO environments VALUES (1, 'host', 'Linux', 'cpu', 'avx2', '', '2.15', "
          "'g++', '0.1', 'abc', 0, 2, 2, '', 8)");
  const std::string config(6'000, '#');
  execute(
      db.get(),
      numbers(kRuns) +
          "INSERT INTO runs SELECT i + 1, 'uid' || i, i % 10 + 1, printf('evaluate%016d', i), "
          "printf('sample%016d', i), 'variant' || (i % 80), 'row' || (i / 10 % 8), 'Label of row ' || (i / 10 % 8), i / 10 % 8, i / 80, "
          "CASE i / 10 % 8 WHEN 0 THEN '' ELSE 'dynamic' END, 'adm-unet', 'checkpoint', 'key', 'cifar10', "
          "'inception', 'dynamic', 350000, 1e9 + i, '2001-09-09T01:46:40.000Z', '" +
          config + "' FROM n");
  execute(
      db.get(),
      numbers(72) +
          "INSERT INTO settings SELECT r.id, printf('section%d.key%02d', "
          "i / 12, i), CASE i % 2 WHEN 0 THEN '' || i ELSE 'text' END, CASE i % 2 WHEN 0 THEN i END FROM runs r JOIN n");
  execute(db.get(),
          "INSERT INTO settings SELECT id, 'method.rho', '' || 0.1 * (1 + row_order), "
          "0.1 * (1 + row_order) FROM runs");
  execute(db.get(),
          "INSERT INTO attempts SELECT id, id, 1, 'host', 1, 'boot', created, created_iso, "
          "created + 60, created_iso, "
          "CASE id % 20 WHEN 0 THEN 'failed' ELSE 'done' END, '', '' FROM runs");
  execute(
      db.get(),
      "INSERT INTO stages SELECT r.id, s.column1, s.column1 || CASE s.column2 WHEN 'run' THEN "
      "printf('%016d', r.id - 1) WHEN 'experiment' THEN printf('%d', r.experiment) ELSE '' END, "
      "'plugin', 'done', r.created, r.created_iso, 60, 'artifacts/' || s.column1, 1000000, 200000, 400000, 1e15, "
      "1000000000, '' FROM runs r JOIN (VALUES ('teacher', 'experiment'), "
      "('synthetic', 'experiment'), ('pool', 'run'), ('train', 'run'), ('sample', 'run'), "
      "('evaluator', ''), ('evaluate', 'run')) s");
  execute(
      db.get(),
      numbers(20) +
          "INSERT INTO metrics SELECT NULL, r.id, m.column1, 10 + (r.id * 7919 % 1000) / 100.0 - i / "
          "10.0, m.column1 = 'is', '', 'adm-1a2b3c4d', CASE m.column1 WHEN 'is' THEN '' ELSE "
          "'cifar10:0123456789abcdef' END, 50000, CASE WHEN r.experiment > 8 THEN 10000 * (i + 1) ELSE "
          "200000 END, r.seed, 'ema', r.created, r.created_iso FROM runs r JOIN n ON i = 19 OR r.experiment > 8 "
          "JOIN (VALUES ('fid'), ('sfid'), ('is')) m ORDER BY r.id, i");
  execute(
      db.get(),
      numbers(kPointsOfRun) +
          "INSERT INTO curves SELECT s.key, 'loss', 200 * i, 1.0 / (i + 1) FROM stages s JOIN n "
          "WHERE s.name = 'train' ORDER BY s.key, i");
  execute(db.get(),
          "INSERT INTO configs VALUES (1, '');"
          "INSERT INTO requests SELECT id, 'uid' || id, id, 'dkdm run', 'host', 1e9, '' "
          "FROM experiments;"
          "INSERT INTO request_cells SELECT experiment, id, row, label, row_order, seed, key, "
          "samples, variant, method, published_row, 1 FROM runs WHERE id % 2 = 0");
  execute(db.get(), "COMMIT; PRAGMA wal_checkpoint(TRUNCATE)");
}

// Every row of the query, every value of it.
void read_all(benchmark::State& state, const std::string& sql) {
  const auto db = open(database(), SQLITE_OPEN_READONLY);
  execute(db.get(), "PRAGMA cache_size = -65536");  // as results/ opens it
  std::int64_t rows = 0, bytes = 0;
  for (auto _ : state) {
    rows = 0;
    sqlite3_stmt* statement = nullptr;
    if (sqlite3_prepare_v2(db.get(), sql.c_str(), -1, &statement, nullptr) != SQLITE_OK) {
      state.SkipWithError(sqlite3_errmsg(db.get()));
      return;
    }
    while (sqlite3_step(statement) == SQLITE_ROW) {
      ++rows;
      for (int c = 0; c < sqlite3_column_count(statement); ++c) {
        bytes += sqlite3_column_bytes(statement, c);
      }
    }
    sqlite3_finalize(statement);
  }
  benchmark::DoNotOptimize(bytes);
  state.counters["rows"] = static_cast<double>(rows);
}

void query_as_program(benchmark::State& state, const std::string& sql) {
  for (auto _ : state) benchmark::DoNotOptimize(results::query(database(), sql));
}

// What a training leaves every log_every steps: six curves' points, one transaction, on disk.
void record_curves(benchmark::State& state) {
  results::Store store(database());
  std::int64_t step = 0;
  const auto key = "bench" + std::to_string(std::rand());
  for (auto _ : state) {
    std::vector<record::CurvePoint> points;
    for (const char* name : {"loss", "mse", "vb", "grad_norm", "lr", "step_seconds"}) {
      points.push_back({name, step, 1.0});
    }
    ++step;
    store.record_curves(key, points);
  }
  const auto db = open(database(), SQLITE_OPEN_READWRITE);
  execute(db.get(), "DELETE FROM curves WHERE stage_key = '" + key + "'");
}

void add_benchmarks() {
  const auto views = results::query(
      database(), "SELECT name FROM sqlite_schema WHERE type = 'view' ORDER BY name");
  for (const auto& view : views.rows) {
    benchmark::RegisterBenchmark(("view/" + *view[0].text).c_str(), read_all,
                                 "SELECT * FROM " + *view[0].text)
        ->Unit(benchmark::kMillisecond);
  }
  int number = 0;
  for (const auto& example : results::query_examples()) {
    benchmark::RegisterBenchmark(
        ("example/" + std::to_string(++number) + "/" + example.view).c_str(), query_as_program,
        example.sql)
        ->Unit(benchmark::kMillisecond);
  }
  benchmark::RegisterBenchmark("runs/list", [](benchmark::State& state) {
    for (auto _ : state) benchmark::DoNotOptimize(results::runs_list(database()));
  })->Unit(benchmark::kMillisecond);
  benchmark::RegisterBenchmark("runs/show", [](benchmark::State& state) {
    for (auto _ : state) benchmark::DoNotOptimize(results::run_detail(database(), kRuns / 2));
  })->Unit(benchmark::kMillisecond);
  benchmark::RegisterBenchmark("report/html", [](benchmark::State& state) {
    results::ReportOptions options;
    options.format = results::ReportFormat::html;
    for (auto _ : state) {
      benchmark::DoNotOptimize(results::report(database(), {"experiment0"}, options));
    }
  })->Unit(benchmark::kMillisecond);
  benchmark::RegisterBenchmark("record/curves", record_curves)->Unit(benchmark::kMillisecond);
}

}  // namespace

int main(int argc, char** argv) {
  if (!fs::exists(database())) {
    std::cerr << "making " << database() << '\n';
    generate(database());
  }
  std::cerr << database() << ": " << fs::file_size(database()) / 1'000'000 << " MB\n";
  add_benchmarks();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
