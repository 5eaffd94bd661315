// Reads what a report needs: a few statements for an experiment, whatever else the database holds.
#include "results/report_source.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>
#include <unordered_map>

namespace dkdm::results {
namespace {

constexpr const char* kOfExperiment =
    "(SELECT r.id FROM experiments e JOIN runs r ON r.experiment = e.id WHERE e.name = ?)";

std::string without_seeds(const std::string& config) {
  std::istringstream lines(config);
  std::string kept;
  for (std::string line; std::getline(lines, line);) {
    if (line.find("seed") == std::string::npos) kept += line + "\n";
  }
  return kept;
}

using RunsById = std::unordered_map<std::int64_t, Run*>;

void load_stages(SQLite::Database& db, const std::string& experiment, const RunsById& runs) {
  SQLite::Statement rows(db, std::string("SELECT run, name, key, artifact, elapsed_s, steps, "
                                         "teacher_evaluations FROM stages WHERE run IN ") +
                                 kOfExperiment + " ORDER BY run, started");
  rows.bind(1, experiment);
  while (rows.executeStep()) {
    const auto run = runs.find(rows.getColumn(0).getInt64());
    if (run == runs.end()) continue;  // never begun
    run->second->stages.push_back(
        {rows.getColumn(1).getString(), rows.getColumn(2).getString(), rows.getColumn(3).getString(),
         rows.getColumn(4).getDouble(), rows.getColumn(5).getInt64(), rows.getColumn(6).getInt64()});
  }
}

bool differ_in_reference_alone(const Conditions& a, const Conditions& b) {
  return std::get<0>(a) == std::get<0>(b) && std::get<1>(a) == std::get<1>(b) &&
         std::get<2>(a) == std::get<2>(b);
}

void load_metrics(SQLite::Database& db, const std::string& experiment, const RunsById& runs) {
  // References in descending order: a metric that needs none (IS) comes last and joins those that do.
  SQLite::Statement rows(db, std::string("SELECT run, name, value, higher_is_better, step, "
                                         "protocol, sample_count, weights, reference FROM metrics "
                                         "WHERE run IN ") +
                                 kOfExperiment + " ORDER BY run, reference = '', step, id");
  rows.bind(1, experiment);
  while (rows.executeStep()) {
    const auto found = runs.find(rows.getColumn(0).getInt64());
    if (found == runs.end() || found->second->status != "done") continue;
    auto& run = *found->second;
    const double value = rows.isColumnNull(2) ? std::numeric_limits<double>::quiet_NaN()
                                              : rows.getColumn(2).getDouble();
    const Measured measured{rows.getColumn(1).getString(), value, rows.getColumn(3).getInt() != 0,
                            rows.getColumn(4).getInt64()};
    const Conditions conditions{rows.getColumn(5).getString(), rows.getColumn(6).getInt64(),
                                rows.getColumn(7).getString(), rows.getColumn(8).getString()};
    bool joined = false;
    if (std::get<3>(conditions).empty()) {
      for (auto& [others, list] : run.metrics) {
        if (std::get<3>(others).empty() || !differ_in_reference_alone(others, conditions)) continue;
        list.push_back(measured);
        joined = true;
      }
    }
    if (!joined) run.metrics[conditions].push_back(measured);
  }
}

}  // namespace

const StageCost* Run::find_stage(const std::string& name) const {
  const auto found = std::find_if(stages.begin(), stages.end(),
                                  [&](const StageCost& stage) { return stage.name == name; });
  return found == stages.end() ? nullptr : &*found;
}

const StageCost* Run::trained() const {
  const auto* student = find_stage("train");
  return student != nullptr ? student : find_stage("teacher");
}

double Run::teacher_evaluations(std::int64_t step) const {
  double evaluations = 0;
  for (const auto& stage : stages) {
    if (stage.name == "synthetic" || stage.name == "pool") {
      evaluations += static_cast<double>(stage.teacher_evaluations);
    } else if (stage.name == "train") {
      const double share =
          stage.steps > 0 ? std::min(1.0, static_cast<double>(step) / stage.steps) : 1;
      evaluations += share * static_cast<double>(stage.teacher_evaluations);
    }
  }
  return evaluations;
}

std::vector<Run> load_runs(SQLite::Database& db, const std::string& experiment) {
  SQLite::Statement rows(
      db,
      "SELECT r.id, r.seed, r.parameters, r.row_order, e.title, e.scale, r.row, r.label, a.status, "
      "a.stage, a.message, r.method, e.published_section, r.published_row, r.config "
      "FROM experiments e JOIN runs r ON r.experiment = e.id "
      "JOIN attempts a ON a.id = (SELECT max(id) FROM attempts WHERE run = r.id) "
      "WHERE e.name = ? ORDER BY r.created, r.id");
  rows.bind(1, experiment);
  std::vector<Run> runs;
  while (rows.executeStep()) {
    auto& run = runs.emplace_back();
    int column = 0;
    for (auto* number : {&run.id, &run.seed, &run.parameters, &run.row_order}) {
      *number = rows.getColumn(column++).getInt64();
    }
    for (auto* text : {&run.title, &run.scale, &run.row, &run.label, &run.status, &run.stage,
                       &run.message, &run.method, &run.published_section, &run.published_row,
                       &run.settings}) {
      *text = rows.getColumn(column++).getString();
    }
    run.settings = without_seeds(run.settings);
  }
  RunsById by_id;
  for (auto& run : runs) by_id[run.id] = &run;
  load_stages(db, experiment, by_id);
  load_metrics(db, experiment, by_id);
  return runs;
}

std::vector<std::pair<double, double>> load_curve(SQLite::Database& db, const std::string& key) {
  SQLite::Statement rows(db,
                         "SELECT step, value FROM curves WHERE stage_key = ? AND name = 'loss' "
                         "AND value IS NOT NULL ORDER BY step");
  rows.bind(1, key);
  std::vector<std::pair<double, double>> points;
  while (rows.executeStep()) {
    const double value = rows.getColumn(1).getDouble();
    if (std::isfinite(value)) points.emplace_back(rows.getColumn(0).getDouble(), value);
  }
  constexpr std::size_t kShown = 160;  // a page's width has no room for more
  if (points.size() <= kShown) return points;
  std::vector<std::pair<double, double>> thinned;
  for (std::size_t bin = 0; bin < kShown; ++bin) {
    const auto first = bin * points.size() / kShown, last = (bin + 1) * points.size() / kShown;
    double step = 0, value = 0;
    for (auto i = first; i < last; ++i) {
      step += points[i].first;
      value += points[i].second;
    }
    const auto count = static_cast<double>(last - first);
    thinned.emplace_back(step / count, value / count);
  }
  return thinned;
}

std::map<std::string, double> load_published(SQLite::Database& db, const std::string& section,
                                           const std::string& row) {
  SQLite::Statement rows(
      db, "SELECT metric, value FROM published WHERE section = ? AND row = replace(?, '-', '_')");
  bind_all(rows, section, row);
  std::map<std::string, double> values;
  while (rows.executeStep()) {
    values[rows.getColumn(0).getString()] = rows.getColumn(1).getDouble();
  }
  return values;
}

std::optional<double> load_rho(SQLite::Database& db, std::int64_t run) {
  SQLite::Statement find(db, "SELECT value FROM settings WHERE run = ? AND key = 'method.rho'");
  find.bind(1, run);
  if (!find.executeStep()) return std::nullopt;
  return find.getColumn(0).getDouble();
}

}  // namespace dkdm::results
