// What `dkdm watch` shows: of running, gone, foreign and finished runs, from the database and from
// the files that processes leave.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include <cmath>
#include <ctime>
#include <sstream>

#include "core/record/process.hpp"
#include "results/query/watch.hpp"
#include "results_support.hpp"

using namespace dkdm;
using namespace dkdm::results;
using namespace dkdm::results::testing;

namespace {

// This process's word: in stage "train dynamic", 412 of 1000 steps, one in a quarter of a second.
record::ProgressRecord a_record(double now) {
  record::ProgressRecord record;
  record.host = record::host_name();
  record.pid = getpid();
  record.process = record::process_token(getpid());
  record.command = "run";
  record.label = "train dynamic";
  record.key = "stage-key";
  record.stage = 2;
  record.stages = 3;
  record.unit = "steps";
  record.done = 412;
  record.total = 1000;
  record.each_s = 0.25;
  record.stage_left_s = 147;
  record.left_s = 207;
  record.stage_started = now - 103;
  record.written = now;
  return record;
}

double unix_now() { return static_cast<double>(::time(nullptr)); }

std::int64_t begin(Store& store, const std::string& row) {
  const auto id = store.begin_run(a_run(row), an_environment(), {});
  store.begin_stage(id, "train", "stage-key", "dynamic");
  return id;
}

std::string text_of(const Watched& watched, int columns = 100) {
  return watch_text(watched, {columns, /*utf8=*/true, /*colour=*/false});
}

// A process that began a run and was killed.
void begin_and_die(const std::filesystem::path& file, const std::string& row) {
  const pid_t child = fork();
  if (child == 0) {
    Store store(file);
    begin(store, row);
    raise(SIGKILL);
  }
  int status = 0;
  waitpid(child, &status, 0);
  REQUIRE(WIFSIGNALED(status));
}

}  // namespace

TEST_CASE("watch: a running stage has its bar, rate, time left and curves", "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  const auto id = begin(store, "dynamic");
  std::vector<record::CurvePoint> points;
  for (int step = 1; step <= 400; ++step) points.push_back({"loss", step, 40.0 / step});
  points.push_back({"grad_norm", 400, 1.5});
  store.record_curves("stage-key", points);
  const auto watched = look(file, {a_record(unix_now())}, 8);
  const auto text = text_of(watched);
  INFO(text);
  CHECK(contains(text, "desk / dynamic, seed 0 · run " + std::to_string(id)));
  CHECK(contains(text, "[2/3] train dynamic"));
  CHECK(contains(
      text, "████████▏░░░░░░░░░░░ 412/1000 steps · 0.25 s/it · ETA 2:2"));  // 8 1/8 of 20 cells
  CHECK(contains(text, "(all stages 3:2"));
  CHECK(contains(text, "loss 0.1 at step 400 · lowest 0.1, highest 40, logarithmic"));
  CHECK(contains(text, "grad_norm 1.5 at step 400"));
  CHECK(contains(text, "1 running"));
  const auto json = nlohmann::json::parse(watch_table(watched).render(Format::json));
  REQUIRE(json.size() == 1);
  CHECK(json[0]["run"] == id);
  CHECK(json[0]["state"] == "running");
  CHECK(json[0]["stage"] == "train dynamic");
  CHECK(json[0]["done"] == 412);
  CHECK(json[0]["total"] == 1000);
  CHECK(json[0]["stage_left_s"] == 147);
  CHECK(json[0]["loss"] == 0.1);
  for (const int columns : {20, 40, 80}) {
    std::istringstream lines(text_of(watched, columns));
    for (std::string line; std::getline(lines, line);) {
      INFO(line);
      CHECK(display_width(line) <= columns);
    }
  }
}

TEST_CASE("watch: a killed process is told from a living one, and from one of another host",
          "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  begin_and_die(file, "dynamic");
  auto watched = look(file, {}, 8);
  REQUIRE(watched.running.size() == 1);
  CHECK(watched.running[0].life == Life::gone);
  CHECK(contains(text_of(watched), "is gone, it was at stage train"));
  CHECK(contains(text_of(watched), "1 crashed"));
  CHECK(nlohmann::json::parse(watch_table(watched).render(Format::json))[0]["state"] == "gone");
  // What it left behind does not make it live again.
  auto left = a_record(unix_now());
  left.pid = watched.running[0].pid;
  left.process = watched.running[0].process;
  CHECK(look(file, {left}, 8).running[0].life == Life::gone);
  CHECK(look(file, {left}, 8).progress.empty());

  // The same pid with another start time is another process.
  watched.running[0].pid = getpid();
  auto reused = a_record(unix_now());
  reused.process = "an earlier boot/17";
  CHECK(look(file, {reused}, 8).progress.empty());

  // Of another host nothing can be known, unless it left word a moment ago.
  auto far = a_record(unix_now());
  far.host = "elsewhere";
  CHECK(look(file, {far}, 8).progress.size() == 1);
  far.written -= 3600;
  CHECK(look(file, {far}, 8).progress.empty());
}

TEST_CASE("watch: looking changes nothing", "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  begin_and_die(file, "dynamic");
  const auto before = read_file(file);
  look(file, {a_record(unix_now())}, 8);
  CHECK(read_file(file) == before);
}

TEST_CASE("watch: runs that ended are listed, the last first, with value or reason",
          "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  add_finished(store, a_run("teacher"), {a_metric("fid", 5.678)});
  const auto failed = store.begin_run(a_run("dynamic"), an_environment(), {});
  store.end_run(failed, "failed", "train", "loss is not finite");
  const auto watched = look(file, {}, 8);
  REQUIRE(watched.ended.size() == 2);
  CHECK(watched.ended[0].row == "dynamic");
  const auto text = text_of(watched);
  INFO(text);
  CHECK(contains(text, "Nothing is running."));
  CHECK(contains(text, "FID@512 5.68"));
  CHECK(contains(text, "train: loss is not finite"));
  CHECK(contains(text, "1 done, 1 failed"));
  CHECK(look(file, {}, 1).ended.size() == 1);
}

TEST_CASE("watch: a process that is silent says so, and one without a run is shown too",
          "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  const Store store(file);
  auto record = a_record(unix_now() - 300);
  record.command = "eval";
  const auto text = text_of(look(file, {record}, 8));
  CHECK(contains(text, "dkdm eval · process " + std::to_string(getpid())));
  CHECK(contains(text, "No word from process"));
}

TEST_CASE("plots of text: the highest value is at the top, the lowest at the bottom",
          "[unit][results]") {
  const Points falling{{0, 8}, {1, 7}, {2, 6}, {3, 5}, {4, 4}, {5, 3}, {6, 2}, {7, 1}};
  CHECK(sparkline(falling, 8, true) == "█▇▆▅▄▃▂▁");
  CHECK(sparkline(falling, 8, false) == "#*+=-,._");
  CHECK(sparkline({}, 8, true).empty());
  CHECK(sparkline({{0, 1}, {1, NAN}, {2, INFINITY}}, 8, true) == "▅");
  CHECK(line_plot(falling, 8, 2, false, false) == std::vector<std::string>{"****    ", "    ****"});
  // Two by four dots a cell, the left column falling one dot a value: bits 1 2 4 then 0x40 of each
  // cell.
  const auto plot = line_plot({{0, 4}, {1, 3}, {2, 2}, {3, 1}}, 2, 1, true, false);
  REQUIRE(plot.size() == 1);
  CHECK(plot[0] == "⠑⢄");
  CHECK(line_plot({{0, -1}, {1, 0}}, 4, 2, true, /*logarithmic=*/true).empty());
  CHECK(line_plot({{5, 3}}, 4, 1, false, false) == std::vector<std::string>{"*   "});
}
