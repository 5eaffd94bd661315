// Writers that are killed, and several at once: what a call returned from is never lost.
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <catch2/catch.hpp>

#include <atomic>
#include <new>
#include <random>

#include "dkdm/store_error.hpp"
#include "results/admin/check.hpp"
#include "results/query/query.hpp"
#include "results/query/runs.hpp"
#include "results_support.hpp"

using namespace dkdm;
using namespace dkdm::results;
using namespace dkdm::results::testing;

namespace {

std::int64_t count(const std::filesystem::path& file, const std::string& sql) {
  return std::stoll(*query(file, sql).rows.at(0).at(0).text);
}

// A counter that a child process and its parent both see, and that survives the child.
class SharedCounter {
 public:
  SharedCounter()
      : value_(new (mmap(nullptr, sizeof(std::atomic<std::int64_t>), PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_ANONYMOUS, -1, 0)) std::atomic<std::int64_t>(0)) {}
  ~SharedCounter() { munmap(value_, sizeof(*value_)); }
  std::atomic<std::int64_t>& operator*() { return *value_; }

 private:
  std::atomic<std::int64_t>* value_;
};

// Forks; the child runs f and leaves without running the parent's destructors.
template <class F>
pid_t start(F&& f) {
  const pid_t child = fork();
  if (child == 0) {
    try {
      f();
    } catch (...) {
      _exit(1);
    }
    _exit(0);
  }
  return child;
}

void expect_success(const std::vector<pid_t>& children) {
  for (const pid_t child : children) {
    int status = 0;
    waitpid(child, &status, 0);
    CHECK(status == 0);
  }
}

}  // namespace

TEST_CASE("store: a killed writer loses nothing that it was told is recorded",
          "[robustness][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  {
    Store store(file);
  }
  std::mt19937 random(7);
  std::int64_t acknowledged = 0;
  constexpr int kKills = 200;
  for (int kill_number = 0; kill_number < kKills; ++kill_number) {
    SharedCounter facts;
    const pid_t child = start([&] {
      Store store(file);
      auto run = a_run("row", kill_number);
      const auto id = store.begin_run(run, an_environment(), {});
      for (std::int64_t i = 0;; ++i) {
        store.record_metrics(id, {a_metric("fid", static_cast<double>(i)), a_metric("is", 1. + i)});
        *facts = i + 1;
      }
    });
    while ((*facts).load() == 0) usleep(200);
    usleep(random() % 10'000);
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    const auto recorded =
        count(file,
              "SELECT count(*) FROM metrics m JOIN runs r ON r.id = m.run WHERE m.name = "
              "'fid' AND r.seed = " +
                  std::to_string(kill_number));
    // The fact under way when the kill came may be there or not, but whole.
    CHECK(recorded >= *facts);
    CHECK(recorded <= *facts + 1);
    acknowledged += *facts;
  }
  CHECK(count(file, "SELECT count(*) FROM metrics WHERE name = 'fid'") >= acknowledged);
  CHECK(count(file, "SELECT count(*) FROM metrics WHERE name = 'fid'") ==
        count(file, "SELECT count(*) FROM metrics WHERE name = 'is'"));

  Store store(file);  // finds the dead
  CHECK(check_database(file, folder.path()).sound());
  CHECK(count(file, "SELECT count(*) FROM failures WHERE status = 'crashed'") == kKills);
  const auto id = store.begin_run(a_run("row", 0), an_environment(), {});
  CHECK(count(file, "SELECT seed FROM runs WHERE id = " + std::to_string(id)) == 0);
  CHECK(count(file, "SELECT count(*) FROM runs") == kKills);  // continued, not begun anew
}

TEST_CASE("store: a living writer in another process is not taken for dead",
          "[robustness][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  SharedCounter begun;
  const pid_t child = start([&] {
    Store store(file);
    *begun = store.begin_run(a_run("dynamic"), an_environment(), {});
    pause();
  });
  while ((*begun).load() == 0) usleep(200);
  {
    Store store(file);
    CHECK(runs_list(file).rows[0][4].text == "running");
    CHECK(store.begin_run(a_run("dynamic"), an_environment(), {}) != *begun);
    CHECK_THROWS_AS(remove_run(file, *begun), StoreError);
  }
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  Store store(file);
  CHECK(runs_list(file).rows[0][4].text == "crashed");
}

TEST_CASE("store: writers at once make one schema and lose nothing", "[robustness][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  constexpr int kWriters = 4, kRuns = 25;
  std::vector<pid_t> children;
  for (int writer = 0; writer < kWriters; ++writer) {
    children.push_back(start([&] {
      Store store(file);  // the file does not exist yet: they race to make it
      for (int i = 0; i < kRuns; ++i) {
        const auto run = a_run("row" + std::to_string(writer), i);
        add_finished(store, run, {a_metric("fid", i)});
        store.record_curves("shared", {{"loss", i, 1.0}});
      }
    }));
  }
  expect_success(children);
  CHECK(count(file, "SELECT count(*) FROM table2") == kWriters * kRuns);
  CHECK(count(file, "SELECT count(*) FROM curves") == kRuns);
  CHECK(count(file, "SELECT count(*) FROM experiments") == 1);
}

TEST_CASE("store: of forty thousand rows of four writers none is lost and none is there twice",
          "[robustness][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  {
    Store store(file);
  }
  constexpr int kWriters = 4, kRows = 10'000, kAtOnce = 50;
  std::vector<pid_t> children;
  for (int writer = 0; writer < kWriters; ++writer) {
    children.push_back(start([&] {
      Store store(file);
      const auto id = store.begin_run(a_run("row", writer), an_environment(), {});
      for (int first = 0; first < kRows; first += kAtOnce) {  // a fact is what one call records
        std::vector<record::MetricRecord> metrics;
        std::vector<record::CurvePoint> points;
        for (int i = first; i < first + kAtOnce; ++i) {
          metrics.push_back(a_metric("fid", i));
          metrics.back().step = i;
          points.push_back({"loss", i, 1. * i});
        }
        store.record_metrics(id, metrics);
        store.record_curves("stage" + std::to_string(writer), points);
      }
      store.end_run(id, "done", "", "");
    }));
  }
  expect_success(children);
  CHECK(count(file, "SELECT count(*) FROM metrics") == kWriters * kRows);
  CHECK(count(file, "SELECT count(*) FROM (SELECT DISTINCT run, step, value FROM metrics)") ==
        kWriters * kRows);
  CHECK(count(file, "SELECT count(*) FROM curves") == kWriters * kRows);
  CHECK(count(file, "SELECT count(*) FROM curves WHERE value <> step") == 0);
  CHECK(count(file, "SELECT count(*) FROM latest_values") == kWriters);
  CHECK(count(file, "SELECT sum(value) FROM latest_metrics") == kWriters * (kRows - 1));
}
