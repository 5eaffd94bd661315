// The runner's bookkeeping, with stages that write a file: what is made, what is recorded, what a
// failure costs.
#include "run/runner.hpp"

#include <catch2/catch.hpp>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <functional>
#include <map>
#include <set>

#include "dkdm/store_error.hpp"
#include "fixtures/analytic.hpp"
#include "record/metrics_file.hpp"

using namespace dkdm;
using stages::Stage;
using stages::StageKind;

namespace {

// Keeps what it is told, as lines.
struct Notes final : record::Recorder {
  std::vector<std::string> lines;
  std::map<std::string, record::StageRecord> stages;  // by run and name
  std::set<std::string> finished;

  std::optional<std::int64_t> finished_run(const record::RunRecord& run) override {
    if (finished.contains(run.key)) return 1;
    return std::nullopt;
  }
  std::int64_t begin_run(const record::RunRecord& run, const record::EnvironmentRecord&,
                         const std::vector<record::PluginRecord>&) override {
    lines.push_back("begin " + run.row);
    running_ = run;
    return ++runs_;
  }
  void begin_stage(std::int64_t, const std::string& name, const std::string&,
                   const std::string&) override {
    lines.push_back("make " + name);
  }
  void end_run(std::int64_t, const std::string& status, const std::string& stage,
               const std::string& message) override {
    lines.push_back("end " + running_.row + " " + status + (stage.empty() ? "" : " at " + stage) +
                    (message.empty() ? "" : ": " + message));
    if (status == "done") finished.insert(running_.key);
  }
  void record_stage(std::int64_t run, const record::StageRecord& stage) override {
    stages[std::to_string(run) + " " + stage.name] = stage;
  }
  void record_artifact(const record::ArtifactRecord&) override {}
  void record_metrics(std::int64_t, const std::vector<record::MetricRecord>& metrics) override {
    for (const auto& metric : metrics) lines.push_back(metric.name);
  }
  void record_selection(std::int64_t, const record::SelectionRecord& selection) override {
    lines.push_back("step " + std::to_string(selection.step));
  }
  void record_curves(const std::string&, const std::vector<record::CurvePoint>&) override {}

 private:
  record::RunRecord running_;
  std::int64_t runs_ = 0;
};

// Two rows on one teacher: teacher -> train a, train b; each evaluated.
struct Desk {
  fixtures::ScratchFolder folder;
  record::ArtifactStore store{folder.path};
  std::atomic<bool> stop{false};
  run::RunHost host{fixtures::shipped_plugins(), stop, nullptr};
  Notes notes;
  stages::StageContext context{fixtures::shipped_plugins(), host, nullptr, &notes};
  run::Plan plan;
  std::map<std::string, std::function<void()>> before;  // label -> what a stage's work begins with

  Desk() {
    const auto teacher = add(StageKind::train, "teacher", {});
    for (const std::string row : {"a", "b"}) {
      const auto train = add(StageKind::train, "train " + row, {teacher});
      const auto sample = add(StageKind::sample, "sample " + row, {train});
      plan.stages[sample].streamed = true;
      const auto evaluate = add(StageKind::evaluate, "evaluate " + row, {train});
      run::PlannedRun run;
      run.record.row = row;
      run.record.key = plan.stages[evaluate].key;
      run.stages = {
          {"teacher", teacher}, {"train", train}, {"sample", sample}, {"evaluate", evaluate}};
      run.sample_stage = sample;
      run.evaluate_stage = evaluate;
      run.outputs = {evaluate};
      plan.runs.push_back(run);
    }
  }

  std::size_t add(StageKind kind, const std::string& label, std::vector<std::size_t> inputs) {
    Stage stage;
    stage.kind = kind;
    stage.label = label;
    stage.parts = {{"stage", name_of(kind)}, {"label", label}};
    stage.key = record::content_key(stage.parts);
    stage.inputs = std::move(inputs);
    stage.work = [this, label, kind](stages::StageContext&, const std::filesystem::path& to,
                                     record::Manifest& manifest) {
      if (before.contains(label)) before[label]();
      std::ofstream(to / "output") << label;
      manifest.outputs = {"output"};
      if (kind != StageKind::evaluate) return;
      record::MetricRecord metric;
      metric.name = "fid of " + label;
      record::write_metrics(to, {metric});
      manifest.outputs.push_back(record::kMetricsFile);
    };
    plan.stages.push_back(std::move(stage));
    return plan.stages.size() - 1;
  }

  run::RunSummary go(const run::RunOptions& options = {}) {
    notes.lines.clear();
    return run::run_plan(plan, context, host, store, {}, options);
  }
};

}  // namespace

TEST_CASE("runner: shared stages are made once, streamed ones not at all", "[unit][run]") {
  Desk desk;
  CHECK(desk.go().done == 2);
  CHECK(desk.notes.lines ==
        std::vector<std::string>{"begin a", "make teacher", "make train", "make evaluate",
                                 "fid of evaluate a", "end a done", "begin b", "make train",
                                 "make evaluate", "fid of evaluate b", "end b done"});
  CHECK(desk.notes.stages.at("1 teacher").status == record::StageStatus::done);
  CHECK(desk.notes.stages.at("2 teacher").status ==
        record::StageStatus::done);  // made by this command
  CHECK(desk.notes.stages.at("1 train").determined_by == desk.plan.stages[1].parts);
  CHECK(desk.go().already_done == 2);
  CHECK(desk.notes.lines.empty());
}

TEST_CASE("runner: a run without its artifact is made again, from what is there", "[unit][run]") {
  Desk desk;
  desk.go();
  std::filesystem::remove_all(
      desk.plan.stages[desk.plan.runs[0].evaluate_stage].folder(desk.store));
  const auto summary = desk.go();
  CHECK(summary.done == 1);
  CHECK(summary.already_done == 1);
  CHECK(desk.notes.lines ==
        std::vector<std::string>{"begin a", "make evaluate", "fid of evaluate a", "end a done"});
  CHECK(desk.notes.stages.at("3 train").status == record::StageStatus::cached);
}

TEST_CASE("runner: a stage that fails fails every run that needs it, once", "[unit][run]") {
  Desk desk;
  int tries = 0;
  desk.before["teacher"] = [&] {
    ++tries;
    throw Error("no teacher");
  };
  CHECK(desk.go().failed == 2);
  CHECK(tries == 1);
  CHECK(desk.notes.lines ==
        std::vector<std::string>{"begin a", "make teacher", "end a failed at teacher: no teacher",
                                 "begin b", "end b failed at teacher: no teacher"});
  CHECK(desk.notes.stages.at("1 teacher").status == record::StageStatus::failed);
  desk.before.clear();
  CHECK(desk.go().done == 2);
}

TEST_CASE("runner: other rows go on after a failure unless asked to stop", "[unit][run]") {
  Desk desk;
  desk.before["train a"] = [] { throw 7; };
  const auto summary = desk.go();
  CHECK(summary.failed == 1);
  CHECK(summary.done == 1);
  Desk strict;
  strict.before["train a"] = [] { throw Error("bad"); };
  CHECK(strict.go({.fail_fast = true}).done == 0);
}

TEST_CASE("runner: Ctrl-C ends the suite as interrupted", "[unit][run]") {
  Desk desk;
  desk.before["train a"] = [] { throw Interrupted(); };
  CHECK(desk.go().interrupted);
  CHECK(desk.notes.lines == std::vector<std::string>{"begin a", "make teacher", "make train",
                                                     "end a interrupted at train"});
  desk.before.clear();
  CHECK(desk.go().done == 2);
  CHECK(desk.notes.lines.front() == "begin a");
  CHECK(desk.notes.lines[1] == "make train");  // the teacher is there
}

TEST_CASE("runner: what cannot be written stops the suite and is recorded", "[unit][run]") {
  Desk desk;
  desk.before["train a"] = [] { throw StoreError("disk full"); };
  CHECK_THROWS_WITH(desk.go(), "disk full");
  CHECK(desk.notes.lines.back() == "end a failed at train: disk full");
}

TEST_CASE("runner: --force makes a row's own stages again and keeps the earlier ones",
          "[unit][run]") {
  Desk desk;
  desk.go();
  const auto& train = desk.plan.stages[1];
  CHECK(desk.go({.force = true}).done == 2);
  CHECK(std::count(desk.notes.lines.begin(), desk.notes.lines.end(), "make train") == 2);
  CHECK(std::count(desk.notes.lines.begin(), desk.notes.lines.end(), "make teacher") == 0);
  CHECK(std::filesystem::exists(train.folder(desk.store).string() + ".earlier-1"));
}
