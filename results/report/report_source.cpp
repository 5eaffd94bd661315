// Reads what a report needs: a few statements for an experiment, whatever else the database holds.
#include "results/report/report_source.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>

namespace dkdm::results {
namespace {

constexpr const char* kOfExperiment =
    "(SELECT r.id FROM experiments e JOIN runs r ON r.experiment = e.id WHERE e.name = ?)";

using RunsById = std::unordered_map<std::int64_t, Run*>;

void load_stages(SQLite::Database& db, const std::string& experiment, const RunsById& runs) {
  SQLite::Statement rows(db, std::string("SELECT run, name, key, artifact, elapsed_s, steps, "
                                         "teacher_evaluations, peak_bytes, device_peak_bytes "
                                         "FROM stages WHERE run IN ") +
                                 kOfExperiment + " ORDER BY run, started");
  rows.bind(1, experiment);
  while (rows.executeStep()) {
    const auto run = runs.find(rows.getColumn(0).getInt64());
    if (run == runs.end()) continue;  // never begun
    run->second->stages.push_back(
        {rows.getColumn(1).getString(), rows.getColumn(2).getString(),
         rows.getColumn(3).getString(), rows.getColumn(4).getDouble(), rows.getColumn(5).getInt64(),
         rows.getColumn(6).getInt64(), rows.getColumn(7).getInt64(),
         rows.isColumnNull(8) ? std::nullopt : std::optional(rows.getColumn(8).getDouble())});
  }
}

bool differ_in_reference_alone(const Conditions& a, const Conditions& b) {
  return std::get<0>(a) == std::get<0>(b) && std::get<1>(a) == std::get<1>(b) &&
         std::get<2>(a) == std::get<2>(b);
}

void load_metrics(SQLite::Database& db, const std::string& experiment, const RunsById& runs) {
  // References in descending order: a metric that needs none (IS) comes last and joins those that
  // do.
  SQLite::Statement rows(db,
                         std::string("SELECT run, name, value, higher_is_better, step, "
                                     "protocol, sample_count, weights, reference, id FROM metrics "
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
                            rows.getColumn(4).getInt64(), rows.getColumn(9).getInt64()};
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

void load_selections(SQLite::Database& db, const std::string& experiment, const RunsById& runs) {
  SQLite::Statement rows(
      db,
      std::string(
          "SELECT run, rule, step, candidates, step = last_step FROM selections WHERE run IN ") +
          kOfExperiment);
  rows.bind(1, experiment);
  while (rows.executeStep()) {
    const auto found = runs.find(rows.getColumn(0).getInt64());
    if (found == runs.end() || found->second->status != "done") continue;
    found->second->selected = {rows.getColumn(1).getString(), rows.getColumn(2).getInt64(),
                               rows.getColumn(3).getInt64(), rows.getColumn(4).getInt() != 0};
  }
}

}  // namespace

Run::Counting Run::counting(const std::vector<Measured>& list) const {
  Counting out;
  for (const auto& measured : list) out.values[measured.name] = measured;
  if (!selected) return out;
  for (const auto& measured : list) {
    if (measured.step != selected->step) continue;
    out.values[measured.name] = measured;
    out.selected = true;
  }
  return out;
}

const Conditions* Run::own_conditions() const {
  const Conditions* own = nullptr;
  std::int64_t first = 0;
  for (const auto& [conditions, list] : metrics) {
    for (const auto& measured : list) {
      if (own != nullptr && measured.id >= first) continue;
      own = &conditions;
      first = measured.id;
    }
  }
  return own;
}

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
      "SELECT r.id, r.seed, r.parameters, r.row_order, e.title, e.scale, e.table_shape, r.row, r.label, a.status, "
      "a.stage, a.message, r.method, e.published_section, r.published_row, r.key, r.samples, "
      "r.variant, coalesce(p.note, ''), r.created, p.run IS NOT NULL "
      "FROM experiments e JOIN runs r ON r.experiment = e.id "
      "JOIN attempts a ON a.id = (SELECT max(id) FROM attempts WHERE run = r.id) "
      "LEFT JOIN pins p ON p.run = r.id "
      "WHERE e.name = ? ORDER BY r.created, r.id");
  rows.bind(1, experiment);
  std::vector<Run> runs;
  while (rows.executeStep()) {
    auto& run = runs.emplace_back();
    int column = 0;
    for (auto* number : {&run.id, &run.seed, &run.parameters, &run.row_order}) {
      *number = rows.getColumn(column++).getInt64();
    }
    for (auto* text : {&run.title, &run.scale, &run.shape, &run.row, &run.label, &run.status,
                       &run.stage, &run.message, &run.method, &run.published_section,
                       &run.published_row, &run.key, &run.samples, &run.variant, &run.note}) {
      *text = rows.getColumn(column++).getString();
    }
    run.created = rows.getColumn(column++).getDouble();
    run.pinned = rows.getColumn(column).getInt() != 0;
  }
  RunsById by_id;
  for (auto& run : runs) by_id[run.id] = &run;
  load_stages(db, experiment, by_id);
  load_metrics(db, experiment, by_id);
  load_selections(db, experiment, by_id);
  return runs;
}

std::vector<record::RunRecord> load_request(SQLite::Database& db, std::int64_t request) {
  SQLite::Statement rows(
      db,
      "SELECT c.row_order, c.seed, e.name, e.title, e.table_shape, e.published_section, e.scale, "
      "e.file, c.row, c.label, c.key, c.samples, c.variant, c.method, c.published_row, k.config "
      "FROM requests q JOIN experiments e ON e.id = q.experiment "
      "JOIN request_cells c ON c.request = q.id JOIN configs k ON k.id = c.config "
      "WHERE q.id = ? ORDER BY c.position");
  rows.bind(1, request);
  std::vector<record::RunRecord> cells;
  while (rows.executeStep()) {
    auto& cell = cells.emplace_back();
    int column = 0;
    cell.row_order = rows.getColumn(column++).getInt64();
    cell.seed = rows.getColumn(column++).getInt64();
    for (auto* text : {&cell.experiment, &cell.title, &cell.table, &cell.published_section,
                       &cell.scale, &cell.file, &cell.row, &cell.label, &cell.key, &cell.samples,
                       &cell.variant, &cell.method, &cell.published_row, &cell.config}) {
      *text = rows.getColumn(column++).getString();
    }
  }
  return cells;
}

std::optional<LastRequest> last_request(SQLite::Database& db, const std::string& experiment) {
  SQLite::Statement find(db,
                         "SELECT q.id, q.command, q.host, q.recorded FROM requests q "
                         "JOIN experiments e ON e.id = q.experiment WHERE e.name = ? AND EXISTS "
                         "(SELECT 1 FROM request_cells WHERE request = q.id) "
                         "ORDER BY q.recorded DESC, q.id DESC LIMIT 1");
  find.bind(1, experiment);
  if (!find.executeStep()) return std::nullopt;
  return LastRequest{find.getColumn(0).getInt64(), find.getColumn(1).getString(),
                     find.getColumn(2).getString(), find.getColumn(3).getDouble()};
}

std::map<std::string, std::string> load_settings(SQLite::Database& db, std::int64_t run) {
  SQLite::Statement rows(db, "SELECT key, value FROM settings WHERE run = ?");
  rows.bind(1, run);
  std::map<std::string, std::string> settings;
  while (rows.executeStep())
    settings[rows.getColumn(0).getString()] = rows.getColumn(1).getString();
  return settings;
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
  SQLite::Statement find(db,
                         "SELECT number FROM settings WHERE run = ? AND key = 'method.rho' AND "
                         "number IS NOT NULL");
  find.bind(1, run);
  if (!find.executeStep()) return std::nullopt;
  return find.getColumn(0).getDouble();
}

}  // namespace dkdm::results
