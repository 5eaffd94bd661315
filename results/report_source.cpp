// Reads what a report needs.
#include "results/report_source.hpp"

#include <cmath>
#include <limits>
#include <sstream>

namespace dkdm::results {
namespace {

std::string without_seeds(const std::string& config) {
  std::istringstream lines(config);
  std::string kept;
  for (std::string line; std::getline(lines, line);) {
    if (line.find("seed") == std::string::npos) kept += line + "\n";
  }
  return kept;
}

void load_metrics(SQLite::Database& db, Run& run) {
  SQLite::Statement rows(db,
                         "SELECT name, value, higher_is_better, protocol, sample_count, weights, "
                         "reference FROM latest_metrics WHERE run = ? ORDER BY reference DESC");
  rows.bind(1, run.id);
  while (rows.executeStep()) {
    const double value = rows.isColumnNull(1) ? std::numeric_limits<double>::quiet_NaN()
                                              : rows.getColumn(1).getDouble();
    const Measured measured{rows.getColumn(0).getString(), value, rows.getColumn(2).getInt() != 0};
    const Conditions conditions{rows.getColumn(3).getString(), rows.getColumn(4).getInt64(),
                                rows.getColumn(5).getString(), rows.getColumn(6).getString()};
    // A metric that needs no reference (IS) joins those that have one; they came first.
    bool joined = false;
    if (std::get<3>(conditions).empty()) {
      for (auto& [others, list] : run.metrics) {
        if (std::get<0>(others) == std::get<0>(conditions) &&
            std::get<1>(others) == std::get<1>(conditions) &&
            std::get<2>(others) == std::get<2>(conditions) && !std::get<3>(others).empty()) {
          list.push_back(measured);
          joined = true;
        }
      }
    }
    if (!joined) run.metrics[conditions].push_back(measured);
  }
}

}  // namespace

std::vector<Run> load_runs(SQLite::Database& db, const std::string& experiment) {
  SQLite::Statement rows(
      db,
      "SELECT r.id, r.seed, r.parameters, r.row, r.label, s.status, s.stage, s.message, r.method, "
      "e.published_section, r.published_row, r.config, "
      "coalesce(t.elapsed_s, c.elapsed_s), t.key "
      "FROM run_status s JOIN runs r ON r.id = s.run JOIN experiments e ON e.id = r.experiment "
      "LEFT JOIN stages t ON t.run = r.id AND t.name = 'train' "
      "LEFT JOIN stages c ON c.run = r.id AND c.name = 'teacher' "
      "WHERE s.experiment = ? ORDER BY r.id");
  rows.bind(1, experiment);
  std::vector<Run> runs;
  while (rows.executeStep()) {
    auto& run = runs.emplace_back();
    int column = 0;
    for (auto* number : {&run.id, &run.seed, &run.parameters}) {
      *number = rows.getColumn(column++).getInt64();
    }
    for (auto* text : {&run.row, &run.label, &run.status, &run.stage, &run.message, &run.method,
                       &run.published_section, &run.published_row, &run.settings}) {
      *text = rows.getColumn(column++).getString();
    }
    if (!rows.isColumnNull(column)) run.train_seconds = rows.getColumn(column).getDouble();
    run.train_key = rows.getColumn(column + 1).getString();
    run.settings = without_seeds(run.settings);
    if (run.status == "done") load_metrics(db, run);
  }
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

}  // namespace dkdm::results
