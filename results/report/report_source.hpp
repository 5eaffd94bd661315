// What the database says about the runs of an experiment. Internal to the report.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "core/record/records.hpp"
#include "results/store/database.hpp"

namespace dkdm::results {

// What two values must share to stand in one column: protocol, sample count, weights, reference.
using Conditions = std::tuple<std::string, std::int64_t, std::string, std::string>;

struct Measured {
  std::string name;
  double value = 0;
  bool higher_is_better = false;
  std::int64_t step = 0;
  std::int64_t id = 0;  // of the metric: in the order in which they were recorded
};

struct StageCost {
  std::string name, key, artifact;  // artifact: folder, relative to the store's root
  double elapsed_s = 0;
  std::int64_t steps = 0, teacher_evaluations = 0, peak_bytes = 0;
  std::optional<double> device_peak_bytes;  // none: on the CPU
};

// The training step whose values count, where a rule chose it.
struct SelectedStep {
  std::string rule;  // "best:fid"
  std::int64_t step = 0, candidates = 0;
  bool is_last = false;
};

// One run with its values (of finished runs only), those of one step after those of earlier steps.
struct Run {
  std::int64_t id = 0, seed = 0, parameters = 0, row_order = 0;
  std::string title, scale, shape, row, label, status, stage, message, method;
  std::string published_section, published_row;
  std::string key, samples, variant;  // as record::RunRecord has them
  double created = 0;
  bool pinned = false;
  std::string note;  // of the pin
  std::vector<StageCost> stages;
  std::map<Conditions, std::vector<Measured>> metrics;
  std::optional<SelectedStep> selected;

  // Of values in the order of their steps those that count, by name: of the selected step where it
  // has one, else of the last; and whether any is of the selected step.
  struct Counting {
    std::map<std::string, Measured> values;
    bool selected = false;
  };
  Counting counting(const std::vector<Measured>& list) const;
  // How the run itself was evaluated, as opposed to later evaluations that were added to it; null
  // when it has no values.
  const Conditions* own_conditions() const;
  // The stage of that name; null when the run has none.
  const StageCost* find_stage(const std::string& name) const;
  // The stage that trained what was evaluated.
  const StageCost* trained() const;
  // Passes through the teacher before and while the first `step` steps were trained.
  double teacher_evaluations(std::int64_t step) const;
};

// The runs of an experiment in the order in which they were begun (ids of a merged file are not).
std::vector<Run> load_runs(SQLite::Database& db, const std::string& experiment);

// The cells of a request, in their order.
std::vector<record::RunRecord> load_request(SQLite::Database& db, std::int64_t request);
struct LastRequest {
  std::int64_t id = 0;
  std::string command, host;
  double recorded = 0;
};
// The last command that asked for cells of the experiment.
std::optional<LastRequest> last_request(SQLite::Database& db, const std::string& experiment);

// A run's settings, as texts.
std::map<std::string, std::string> load_settings(SQLite::Database& db, std::int64_t run);

// Training loss by step, averaged down to what a page's width can show.
std::vector<std::pair<double, double>> load_curve(SQLite::Database& db, const std::string& key);

// The paper's values of a row, by metric.
std::map<std::string, double> load_published(SQLite::Database& db, const std::string& section,
                                             const std::string& row);

// The size of a run's batch set (core/notation.md, rho), where its method has one.
std::optional<double> load_rho(SQLite::Database& db, std::int64_t run);

}  // namespace dkdm::results
