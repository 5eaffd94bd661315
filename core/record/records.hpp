// What a run leaves behind, as plain values: core writes them through Recorder, results/ stores
// them. Torch-free, SQL-free.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace dkdm::record {

// Where something ran. Times below are Unix seconds (f64).
struct EnvironmentRecord {
  std::string host, os, cpu, cpu_features, gpu, libtorch, compiler, dkdm_version, git_revision;
  bool git_dirty = false;
  std::int64_t cores = 0, threads = 0, memory_bytes = 0;
  std::string threads_reason;  // record/threads.hpp
  // What networks compute on: "cpu", "cuda:0"; then `gpu` is its name. Its driver's version, "" =
  // not known.
  std::string device = "cpu", driver;
  bool repeatable = true;  // operators with a repeatable kernel take it (device::set_arithmetic)
};

struct PluginRecord {
  std::string kind, name, version, summary, file;
};

// Immutable configuration of a run: one row of an experiment at one seed. The three keys say which
// cell of a table it is (results/README.md).
struct RunRecord {
  std::string key;      // content key of its last stage: equal keys are the same computation
  std::string samples;  // content key of what is evaluated; "" = `key`
  std::string
      variant;  // the row's configuration whatever the seed and evaluator: `samples` at seed 0;
                // "" = made from the settings
  std::string experiment, title, table, published_section, published_row, scale, file;
  std::string row, label;
  std::int64_t row_order = 0, seed = 0;
  std::string method;                                // plugin name; "" marks the teacher itself
  std::string student, teacher, dataset, evaluator;  // plugin names, "" = none
  std::string teacher_key;                           // of its training, or the hash of its weights
  std::string config;                                // resolved TOML
  std::int64_t parameters = 0;                       // of the evaluated network
};

enum class StageStatus { done, cached, failed };

struct StageRecord {
  // "teacher", "synthetic", "pool", "train", "sample", "evaluator", "evaluate", "snapshots",
  // "select".
  std::string name, key, plugin;
  StageStatus status = StageStatus::done;
  double started = 0, elapsed_s = 0;  // elapsed_s: work of all attempts that made the artifact
  std::string artifact;               // folder, relative to the store's root; "" = none
  std::int64_t bytes = 0;
  std::int64_t steps = 0;  // training steps or images
  std::int64_t teacher_evaluations = 0;
  std::optional<double> flops;       // of the networks' forwards and backwards; none: not counted
  std::optional<double> teacher_s;   // of elapsed_s, in the teacher's network; none: not measured
  std::optional<double> held_bytes;  // what a training's method keeps besides networks and batch
  std::int64_t peak_bytes = 0;       // resident memory
  // Of the accelerator, in tensors at once; none where networks computed on the CPU.
  std::optional<double> device_peak_bytes;
  // What came of [train] graphs: "student recorded, teacher recorded", or why not; "" = not asked
  // for.
  std::string graphs;
  std::string error;
  std::vector<std::pair<std::string, std::string>> determined_by;  // what the key is the hash of
};

// The kind of a network's weights, or of what drew a set of images, where nothing says "ema" or
// "raw".
inline constexpr const char* kUnlabelled = "unlabelled";

struct MetricRecord {
  std::string name;  // "fid"
  double value = 0;
  bool higher_is_better = false;
  std::string unit, protocol, reference;  // protocol id; reference fingerprint
  std::int64_t sample_count = 0;
  std::int64_t step = 0;              // training step of the evaluated weights
  std::string weights = kUnlabelled;  // "ema", "raw"
};

// The step whose values count for a run, where a rule chose it among those that were evaluated.
struct SelectionRecord {
  std::string rule;  // "best:fid"
  std::int64_t step = 0, last_step = 0;
  std::int64_t candidates = 0;  // evaluated steps, the last one among them
  MetricRecord by;              // the value that decided
};

struct CurvePoint {
  std::string name;  // "loss", "mse", "vb", "grad_norm", "lr", "step_seconds"
  std::int64_t step = 0;
  double value = 0;
};

struct ArtifactRecord {
  std::string key, kind, path, sha256;  // path relative to the store's root
  std::int64_t bytes = 0;
};

// Every call is one committed transaction; all throw StoreError. Implemented by results::Store.
class Recorder {
 public:
  virtual ~Recorder() = default;

  // The finished run with this key, experiment, row and seed, if any.
  virtual std::optional<std::int64_t> finished_run(const RunRecord& run) = 0;
  // An unfinished run with the same key, experiment, row and seed is continued, else a new row;
  // either way a new attempt begins. Returns the run's id.
  virtual std::int64_t begin_run(const RunRecord& run, const EnvironmentRecord& environment,
                                 const std::vector<PluginRecord>& plugins) = 0;
  // The run is at work on this stage from now on: what is known of a process that ends without a
  // word.
  virtual void begin_stage(std::int64_t run, const std::string& name, const std::string& key,
                           const std::string& plugin) = 0;
  // status "done", "failed" or "interrupted"; message "" unless failed.
  virtual void end_run(std::int64_t run, const std::string& status, const std::string& stage,
                       const std::string& message) = 0;
  // The same (run, name) again replaces a failed or cached record, never a done one by a failed
  // one.
  virtual void record_stage(std::int64_t run, const StageRecord& stage) = 0;
  virtual void record_artifact(const ArtifactRecord& artifact) = 0;
  virtual void record_metrics(std::int64_t run, const std::vector<MetricRecord>& metrics) = 0;
  // Another one takes its place.
  virtual void record_selection(std::int64_t run, const SelectionRecord& selection) = 0;
  // Curves belong to a training stage's key, shared by every run that reads it. A point that is
  // there already is kept.
  virtual void record_curves(const std::string& stage_key,
                             const std::vector<CurvePoint>& points) = 0;
};

}  // namespace dkdm::record
