// What a process that makes runs tells the one that waits for it: enough to record a run that it
// does not come to record itself, because a plugin ended it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/child.hpp"
#include "record/records.hpp"
#include "results/store/store.hpp"

namespace dkdm::cli {

// Records, and tells the parent process what a run is at.
class ForwardingRecorder final : public record::Recorder {
 public:
  ForwardingRecorder(record::Recorder& store, const SendLine& say) : store_(store), say_(say) {}

  std::optional<std::int64_t> finished_run(const record::RunRecord& run) override {
    return store_.finished_run(run);
  }
  std::int64_t begin_run(const record::RunRecord& run, const record::EnvironmentRecord& environment,
                         const std::vector<record::PluginRecord>& plugins) override {
    const auto id = store_.begin_run(run, environment, plugins);
    say_("run\t" + std::to_string(id) + '\t' + std::to_string(run.seed) + '\t' + run.row);
    return id;
  }
  void begin_stage(std::int64_t run, const std::string& name, const std::string& key,
                   const std::string& plugin) override {
    say_("stage\t" + name + '\t' + key + '\t' + plugin);
    store_.begin_stage(run, name, key, plugin);
  }
  void end_run(std::int64_t run, const std::string& status, const std::string& stage,
               const std::string& message) override {
    store_.end_run(run, status, stage, message);
    say_("end\t" + status);
  }
  void record_stage(std::int64_t run, const record::StageRecord& stage) override {
    store_.record_stage(run, stage);
    if (stage.status == record::StageStatus::failed)
      say_("failed\t" + stage.key + '\t' + stage.error);
  }
  void record_artifact(const record::ArtifactRecord& artifact) override {
    store_.record_artifact(artifact);
  }
  void record_metrics(std::int64_t run, const std::vector<record::MetricRecord>& metrics) override {
    store_.record_metrics(run, metrics);
  }
  void record_selection(std::int64_t run, const record::SelectionRecord& selection) override {
    store_.record_selection(run, selection);
  }
  void record_curves(const std::string& key,
                     const std::vector<record::CurvePoint>& points) override {
    store_.record_curves(key, points);
  }

 private:
  record::Recorder& store_;
  const SendLine& say_;
};

// What was told.
struct WorkerReport {
  std::optional<std::int64_t> run;  // under way
  std::string row;
  std::int64_t seed = 0;
  record::StageRecord stage;
  std::string error;  // that it ended with
  bool over = false;  // it came to its end

  // Takes in a line of ForwardingRecorder. False for any other.
  bool take(const std::string& line);
};

// The fields of a line, between tabs.
std::vector<std::string> fields(const std::string& line);

// Records the stage and the run that were under way as failed, and says so on stderr.
void record_death(results::Store& store, const WorkerReport& report, const std::string& message);

}  // namespace dkdm::cli
