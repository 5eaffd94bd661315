#include "run/runner.hpp"

#include <algorithm>
#include <map>
#include <set>

#include "device/choice.hpp"
#include "device/environment.hpp"
#include "dkdm/store_error.hpp"
#include "error_text.hpp"
#include "plugin/call.hpp"
#include "record/clock.hpp"
#include "record/environment.hpp"
#include "record/metrics_file.hpp"
#include "stages/sampling.hpp"

namespace dkdm::run {
namespace {

using stages::Stage;
using stages::StageKind;

// Settings that the memory of a stage follows.
std::string smaller(StageKind kind) {
  switch (kind) {
    case StageKind::train:
      return "a smaller train.batch or method.rho needs less, and the training goes on from its last "
             "checkpoint";
    case StageKind::pool:
      return "a smaller method.teacher_batch needs less, and the preparation goes on where it was";
    case StageKind::synthetic:
      return "a smaller synthetic.batch needs less, and the images that are drawn are kept";
    case StageKind::evaluator: return "a smaller evaluator.batch needs less";
    default:
      return "a smaller sample.batch or evaluator.batch needs less, and what is evaluated is kept";
  }
}

class Runner {
 public:
  Runner(const Plan& plan, stages::StageContext& context, RunHost& host,
         record::ArtifactStore& store, const std::vector<record::PluginRecord>& plugins,
         const RunOptions& options)
      : plan_(plan), context_(context), host_(host), store_(store), plugins_(plugins),
        options_(options), progress_(estimates(), record::progress_folder(store.root()), "run"),
        failures_(options.failed_stages) {
    host_.set_progress(&progress_);
    host_.set_device(plan.device);
  }
  ~Runner() { host_.set_progress(nullptr); }

  RunSummary run() {
    RunSummary summary;
    for (const auto& planned : plan_.runs) {
      if (!options_.force && context_.recorder->finished_run(planned.record) && is_there(planned)) {
        ++summary.already_done;
        continue;
      }
      const auto id = context_.recorder->begin_run(
          planned.record, device::environment(plan_.device), used(planned));
      std::string stage = "";
      try {
        make_run(id, planned, stage);
        context_.recorder->end_run(id, "done", "", "");
        ++summary.done;
      } catch (const Interrupted&) {
        context_.recorder->end_run(id, "interrupted", stage, "");
        summary.interrupted = true;
        return summary;
      } catch (const StoreError& error) {
        record_ending(id, stage, error_text(error));
        throw;  // what cannot be written stops the suite
      } catch (...) {
        const std::string message = current_error_text();
        summary.failures.push_back(planned.record.row + ", seed " +
                                   std::to_string(planned.record.seed) + ", " + stage + ": " +
                                   message);
        progress_.say("failed: " + summary.failures.back());
        context_.recorder->end_run(id, "failed", stage, message);
        ++summary.failed;
        if (options_.fail_fast) return summary;
      }
    }
    return summary;
  }

 private:
  std::vector<double> estimates() const {
    std::vector<double> seconds;
    for (const auto index : missing_stages(plan_, store_))
      seconds.push_back(plan_.stages[index].estimated_s);
    return seconds;
  }

  // So that the run does not stay "running" because of what ended the suite. The database may be
  // what cannot be written: then the first error is the one to show.
  void record_ending(std::int64_t id, const std::string& stage, const std::string& message) {
    try {
      context_.recorder->end_run(id, "failed", stage, message);
    } catch (const std::exception&) {
    }
  }

  // Of the loaded plugins those that the run uses.
  std::vector<record::PluginRecord> used(const PlannedRun& planned) const {
    std::vector<record::PluginRecord> records;
    for (const auto& plugin : plugins_) {
      const std::pair name(plugin.kind, plugin.name);
      if (std::find(planned.plugins.begin(), planned.plugins.end(), name) != planned.plugins.end())
        records.push_back(plugin);
    }
    return records;
  }

  void make_run(std::int64_t id, const PlannedRun& planned, std::string& stage) {
    // Only what is missing is made: with the samples there, the weights are not asked for.
    std::set<std::size_t> needed;
    for (const auto output : planned.outputs) collect_needed(output, planned, needed);
    for (const auto& [name, index] : planned.stages) {
      stage = name;
      const auto& planned_stage = plan_.stages[index];
      if (const auto manifest = planned_stage.find(store_)) {
        if (!(options_.force && is_own(planned, index) && !made_.contains(planned_stage.key))) {
          record(id, name, planned_stage, *manifest,
                 made_.contains(planned_stage.key) ? record::StageStatus::done
                                                   : record::StageStatus::cached);
          continue;
        }
        store_.retire(name_of(planned_stage.kind), planned_stage.key);
        needed.insert(index);
      }
      if (!needed.contains(index)) continue;
      record(id, name, planned_stage, make_stage(id, name, planned_stage),
             record::StageStatus::done);
    }
    stage = "evaluate";
    record_streamed(id, planned);
    for (const auto index : planned.outputs) {
      const auto& made = plan_.stages[index];
      if (index == planned.sample_stage) continue;
      context_.recorder->record_metrics(id, record::read_metrics(made.folder(store_)));
    }
    if (planned.select_stage)
      context_.recorder->record_selection(
          id, record::read_selection(plan_.stages[*planned.select_stage].folder(store_)));
  }

  bool is_there(const PlannedRun& planned) const {
    return std::all_of(planned.outputs.begin(), planned.outputs.end(), [&](std::size_t index) {
      return plan_.stages[index].find(store_).has_value();
    });
  }

  // Samples that went straight into the evaluator have no folder, but a key and costs.
  void record_streamed(std::int64_t id, const PlannedRun& planned) {
    const auto& sample = plan_.stages[planned.sample_stage];
    const auto& evaluate = plan_.stages[planned.evaluate_stage];
    if (sample.find(store_)) return;  // recorded as what it is
    const auto manifest = record::read_manifest(evaluate.folder(store_) / record::kSamplesManifest);
    if (!manifest) return;  // evaluated from a set on disk that was deleted since
    auto drawn = record_of(
        "sample", sample, *manifest,
        made_.contains(evaluate.key) ? record::StageStatus::done : record::StageStatus::cached);
    drawn.artifact = "";
    context_.recorder->record_stage(id, drawn);
  }

  static bool is_own(const PlannedRun& planned, std::size_t index) {
    for (const auto& [name, stage] : planned.stages)
      if (stage == index) return is_own_stage(name);
    return false;
  }

  void collect_needed(std::size_t index, const PlannedRun& planned, std::set<std::size_t>& needed) {
    const auto& stage = plan_.stages[index];
    const bool remake = options_.force && is_own(planned, index);
    if (needed.contains(index) || (!remake && stage.find(store_))) return;
    needed.insert(index);
    for (const auto input : stage.inputs) collect_needed(input, planned, needed);
  }

  record::Manifest make_stage(std::int64_t id, const std::string& name, const Stage& stage) {
    if (const auto failed = failures_.find(stage.key); failed != failures_.end())
      throw Error(failed->second);
    const double started = record::unix_time();
    context_.recorder->begin_stage(id, name, stage.key, stage.plugin);
    progress_.begin(stage.label, stage.key);
    try {
      record::Manifest manifest;
      manifest.plugin = stage.plugin;
      manifest.parts = stage.parts;
      const auto work = [&](const std::filesystem::path& folder, record::Manifest& filled) {
        // What the plugins of one stage left changed is put back before the next, and before
        // anything is published; and the threads that compute are as this one is.
        const plugin::CallScope scope(stage.plugin, name.c_str(), plugin::Care::process);
        plugin::settle_workers();
        record::restart_peak_resident();
        device::restart_peak(plan_.device);
        try {
          stage.work(context_, folder, filled);
        } catch (const c10::OutOfMemoryError& error) {
          throw Error("device " + plan_.device.str() + ": " + error_text(error) + "; " +
                      smaller(stage.kind) + "; so does another device (--device)");
        }
        if (filled.elapsed_s == 0) filled.elapsed_s = record::unix_time() - started;
        if (filled.peak_bytes == 0) filled.peak_bytes = record::peak_resident_bytes();
        filled.device_peak_bytes = device::peak_bytes(plan_.device);
      };
      bool said = false;
      const auto waiting = [&](const std::string& holder) {
        if (!said) progress_.say("waiting for " + holder + ", which is at: " + stage.label);
        said = true;
        host_.progress("waiting", 0, 1);
      };
      manifest = store_.make(name_of(stage.kind), stage.key, manifest, work, waiting);
      progress_.end();
      made_.insert(stage.key);
      return manifest;
    } catch (const Interrupted&) {
      throw;
    } catch (const StoreError&) {
      throw;
    } catch (...) {
      const std::string message = current_error_text();
      failures_[stage.key] = message;
      record::StageRecord failed;
      failed.name = name;
      failed.key = stage.key;
      failed.plugin = stage.plugin;
      failed.status = record::StageStatus::failed;
      failed.started = started;
      failed.elapsed_s = record::unix_time() - started;
      failed.error = message;
      failed.determined_by = stage.parts;
      context_.recorder->record_stage(id, failed);
      throw;
    }
  }

  std::string relative_path(const Stage& stage) const {
    return std::filesystem::relative(stage.folder(store_), store_.root()).string();
  }

  record::StageRecord record_of(const std::string& name, const Stage& stage,
                                const record::Manifest& manifest,
                                record::StageStatus status) const {
    record::StageRecord record;
    record.name = name;
    record.key = stage.key;
    record.plugin = stage.plugin;
    record.status = status;
    record.started =
        record::unix_time() - (status == record::StageStatus::done ? manifest.elapsed_s : 0);
    record.elapsed_s = manifest.elapsed_s;
    record.artifact = relative_path(stage);
    record.bytes = manifest.bytes;
    record.steps = manifest.steps;
    record.teacher_evaluations = manifest.teacher_evaluations;
    record.flops = manifest.flops;
    record.teacher_s = manifest.teacher_s;
    record.held_bytes = manifest.held_bytes;
    record.peak_bytes = manifest.peak_bytes;
    record.device_peak_bytes = manifest.device_peak_bytes;
    record.graphs = manifest.graphs;
    record.determined_by = stage.parts;
    return record;
  }

  void record(std::int64_t id, const std::string& name, const Stage& stage,
              const record::Manifest& manifest, record::StageStatus status) {
    const auto record = record_of(name, stage, manifest, status);
    context_.recorder->record_stage(id, record);
    // Also when it was there already: the process that made it may have ended before it could say
    // so.
    context_.recorder->record_artifact(
        {stage.key, name_of(stage.kind), record.artifact, manifest.sha256, manifest.bytes});
  }

  const Plan& plan_;
  stages::StageContext& context_;
  RunHost& host_;
  record::ArtifactStore& store_;
  const std::vector<record::PluginRecord>& plugins_;
  const RunOptions options_;
  Progress progress_;
  std::map<std::string, std::string> failures_;  // key of a failed stage -> message
  std::set<std::string> made_;                   // keys made by this call
};

}  // namespace

RunSummary run_plan(const Plan& plan, stages::StageContext& context, RunHost& host,
                    record::ArtifactStore& store, const std::vector<record::PluginRecord>& plugins,
                    const RunOptions& options) {
  const plugin::StdoutAside only_results_are_printed;
  return Runner(plan, context, host, store, plugins, options).run();
}

std::vector<std::size_t> missing_stages(const Plan& plan, const record::ArtifactStore& store) {
  std::set<std::size_t> missing;
  const std::function<void(std::size_t)> visit = [&](std::size_t index) {
    const auto& stage = plan.stages[index];
    if (missing.contains(index) || stage.find(store)) return;
    missing.insert(index);
    for (const auto input : stage.inputs) visit(input);
  };
  for (const auto& planned : plan.runs)
    for (const auto output : planned.outputs) visit(output);
  return {missing.begin(), missing.end()};
}

std::filesystem::path grid_file(const PlannedRun& run, const Plan& plan,
                                const record::ArtifactStore& store) {
  if (run.select_stage) {  // it has one unless it chose the last step
    const auto chosen = plan.stages[*run.select_stage].folder(store) / stages::kGridFile;
    if (std::filesystem::exists(chosen)) return chosen;
  }
  const auto& evaluate = plan.stages[run.evaluate_stage];
  const auto grid = evaluate.folder(store) / stages::kGridFile;
  const auto& sample = plan.stages[run.sample_stage];
  // Evaluations of before samples were streamed have none of their own.
  return std::filesystem::exists(grid) ? grid : sample.folder(store) / stages::kGridFile;
}

}  // namespace dkdm::run
