// What was recorded about runs, for a person: list, one run in full, two runs compared, removal.
// All throw StoreError when the file cannot be read or a run does not exist.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/record/records.hpp"
#include "results/text/table.hpp"

namespace dkdm::results {

// Experiments with at least one run, in the order of their first runs.
std::vector<std::string> experiment_names(const std::filesystem::path& file);

// A stage that a run of an experiment has on record.
struct RecordedStage {
  std::string row, name, key;  // name: "train", "evaluate", …
  std::int64_t seed = 0;
};
std::vector<RecordedStage> recorded_stages(const std::filesystem::path& file,
                                           const std::string& experiment);

// A finished run whose teacher had the weights with this SHA-256, the latest first.
struct TeacherUse {
  std::int64_t run = 0;
  std::string experiment;
  std::string images;  // the dataset that it took them to be trained on
};
std::vector<TeacherUse> teacher_uses(const std::filesystem::path& file, const std::string& sha256);

// id, experiment, row, seed, status, started, seconds, key (first 12 characters); oldest first.
// experiment "" = all. Throws ConfigError that names the nearest for one that has no runs.
Table runs_list(const std::filesystem::path& file, const std::string& experiment = "");

// Everything about one run: Run, Attempts, Environment, Plugins, Stages, Metrics, Artifacts, and
// what its stages' keys are the hashes of.
struct RunDetail {
  std::vector<Table> tables;
  std::string repeat;  // commands that make it again
  std::string config;  // resolved TOML: an experiment file

  // text and markdown: the tables, then how to repeat it and the configuration; csv: tables
  // separated by an empty line; json: one object, a member for each table (its title in lower
  // case), "repeat" and "config".
  std::string render(Format format, bool colour = false, int columns = 0) const;  // as Table's
};
RunDetail run_detail(const std::filesystem::path& file, std::int64_t run);

// What differs between two runs: record, metrics, settings, environment, stage keys and seconds.
// Columns: "what", "run A", "run B", "changes the key of": the stages whose content key a setting
// enters ("no" = none, so it cannot have changed the result; "unknown" = recorded before keys were
// explained), and for a stage's key the parts that differ. No rows = nothing differs.
Table runs_diff(const std::filesystem::path& file, std::int64_t run_a, std::int64_t run_b);

// The network whose values count for a run.
struct CountingNetwork {
  std::string artifact;  // folder of its training, relative to the store's root
  // Where a rule chose other weights than the last ones: their step, kept below that folder.
  std::optional<std::int64_t> kept_step;
};
// Throws StoreError when the run does not exist or has trained nothing.
CountingNetwork counting_network(const std::filesystem::path& file, std::int64_t run);

// Samples of that network, and of which weights they are.
struct EvaluatedSamples {
  std::string artifact;   // folder, relative to the store's root, which has them where they were
                          // kept: else they are drawn again, of counting_network
  std::string key;        // content key of the set
  std::int64_t step = 0;  // training step of the weights
  std::int64_t seed = 0;  // of the run
  std::string weights;    // "ema", "raw" or "unlabelled"
  std::vector<std::string> settings;  // of [sample], as "count=2048"
};
// Throws StoreError when the run does not exist, DataError when it drew no samples.
EvaluatedSamples evaluated_samples(const std::filesystem::path& file, std::int64_t run);

// The values of a run, in the order of their recording. Throws StoreError when it does not exist.
std::vector<record::MetricRecord> recorded_metrics(const std::filesystem::path& file,
                                                   std::int64_t run);

// Makes a finished run the one that counts for its row and seed, in place of another that was
// pinned; returns that one's number, if any. `note` says why. Throws StoreError for a run that is
// not there or not done.
std::optional<std::int64_t> pin_run(const std::filesystem::path& file, std::int64_t run,
                                    const std::string& note);
// Throws StoreError when the run is not pinned.
void unpin_run(const std::filesystem::path& file, std::int64_t run);

// Forgets a run: its attempts, stages and metrics. Artifacts and curves stay, other runs may read
// them. Refuses a run that a living process is at work on.
void remove_run(const std::filesystem::path& file, std::int64_t run);

}  // namespace dkdm::results
