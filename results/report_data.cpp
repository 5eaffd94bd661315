// From rows of the database to the tables of a report.
#include <algorithm>
#include <cmath>
#include <iterator>

#include "results/report_data.hpp"
#include "results/report_source.hpp"

namespace dkdm::results {
namespace {

Estimate estimate(const std::vector<double>& values) {
  Estimate out;
  out.count = static_cast<int>(values.size());
  for (const double value : values) out.mean += value / out.count;
  if (out.count > 1) {
    double squares = 0;
    for (const double value : values) squares += (value - out.mean) * (value - out.mean);
    out.std = std::sqrt(squares / (out.count - 1));
  }
  return out;
}

std::string reason_of(const Run& run) {
  const auto where = run.stage.empty() ? "" : " in stage " + run.stage;
  const auto what = run.message.empty() ? "" : ": " + run.message;
  if (run.status == "interrupted") return "interrupted" + where + "; the same command continues";
  if (run.status == "running") return "running";
  return run.status + where + what;
}

// All that is on record of one row: for each seed the run that counts and the newest one.
struct RowRecord {
  ExpectedRow row;
  bool teacher = false;
  std::int64_t parameters = 0;
  std::map<std::int64_t, const Run*> done, newest;
};

std::vector<RowRecord> group_rows(const std::vector<Run>& runs, const std::string& experiment,
                                  const std::vector<ExpectedRow>& expected,
                                  const std::map<std::string, std::int64_t>& order) {
  std::vector<RowRecord> rows;
  bool listed = false;
  for (const auto& row : expected) {
    if (row.experiment != experiment) continue;
    rows.push_back({row, false, 0, {}, {}});
    listed = true;
  }
  for (const auto& run : runs) {
    auto found = std::find_if(rows.begin(), rows.end(),
                              [&](const RowRecord& r) { return r.row.row == run.row; });
    if (found == rows.end()) {
      if (listed) continue;
      rows.push_back({{experiment, run.row, "", "", ""}, false, 0, {}, {}});
      found = std::prev(rows.end());
    }
    if (!listed) {
      found->row = {experiment, run.row, run.label, run.published_section, run.published_row};
    }
    found->teacher = run.method.empty();
    found->parameters = run.parameters;
    found->newest[run.seed] = &run;
    if (run.status == "done") found->done[run.seed] = &run;
  }
  if (!listed) {
    std::stable_sort(rows.begin(), rows.end(), [&](const RowRecord& a, const RowRecord& b) {
      return order.at(a.row.row) < order.at(b.row.row);
    });
  }
  return rows;
}

ReportLine line_of(SQLite::Database& db, const RowRecord& record, const Conditions& conditions,
                   bool with_curves) {
  ReportLine line;
  line.row = record.row.row;
  line.label = record.row.label.empty() ? record.row.row : record.row.label;
  line.teacher = record.teacher;
  line.parameters = record.parameters;
  line.published = load_published(db, record.row.published_section, record.row.published_row);
  std::map<std::string, std::vector<double>> values;
  std::vector<double> seconds;
  for (const auto& [seed, run] : record.done) {
    const auto measured = run->metrics.find(conditions);
    if (measured == run->metrics.end()) continue;
    for (const auto& metric : measured->second) values[metric.name].push_back(metric.value);
    if (run->train_seconds) seconds.push_back(*run->train_seconds);
    line.runs.push_back(run->id);
    if (with_curves && line.curve.empty()) line.curve = load_curve(db, run->train_key);
  }
  for (const auto& [name, list] : values) line.metrics[name] = estimate(list);
  if (!seconds.empty()) line.train_seconds = estimate(seconds).mean;
  line.status = line.runs.empty() ? "not run" : "done";
  return line;
}

void mark_best(ReportTable& table) {
  for (const auto& name : table.metrics) {
    std::vector<Estimate*> students;
    for (auto& line : table.lines) {
      const auto found = line.metrics.find(name);
      const bool ranked = found != line.metrics.end() && std::isfinite(found->second.mean);
      if (!line.teacher && ranked) students.push_back(&found->second);
    }
    if (students.size() < 2) continue;  // alone is not best
    const double sign = table.higher_is_better[name] ? -1 : 1;
    const auto least = [&](const Estimate* a, const Estimate* b) {
      return sign * a->mean < sign * b->mean;
    };
    const double best = (*std::min_element(students.begin(), students.end(), least))->mean;
    for (auto* student : students) student->best = student->mean == best;
  }
}

void add_notes(ReportTable& table) {
  bool spread = false, published = false;
  for (const auto& line : table.lines) {
    published = published || !line.published.empty();
    for (const auto& [name, value] : line.metrics) spread = spread || value.std.has_value();
  }
  if (spread) table.notes.push_back("± is the standard deviation over seeds.");
  const bool as_paper = table.protocol.rfind("adm", 0) == 0 && table.sample_count == 50'000;
  if (published && !as_paper) {
    table.notes.push_back(
        "The paper's values were measured with Inception features and 50,000 samples: compare the "
        "order of the rows, not the numbers.");
  }
}

// A mean over seeds says something only when the seed is all that differs.
void warn_of_mixed_settings(ReportTable& table, const RowRecord& record,
                            const Conditions& conditions) {
  const Run* first = nullptr;
  for (const auto& [seed, run] : record.done) {
    if (run->metrics.count(conditions) == 0) continue;
    if (first != nullptr && run->settings != first->settings) {
      const auto a = std::to_string(first->id), b = std::to_string(run->id);
      table.notes.push_back("Row " + record.row.row + " mixes runs of different settings: see `dkdm "
                            "runs diff " + a + " " + b + "`.");
      return;
    }
    first = run;
  }
}

// Rows without a value here: why, when no other table has them either.
void explain(ReportTable& table, const std::vector<RowRecord>& rows, bool first) {
  for (const auto& record : rows) {
    const auto line = std::find_if(table.lines.begin(), table.lines.end(),
                                   [&](const ReportLine& l) { return l.row == record.row.row; });
    if (line == table.lines.end()) continue;
    if (line->runs.empty()) {
      line->reason = "not run yet";
      if (!record.newest.empty()) {
        const auto& run = *record.newest.rbegin()->second;
        line->status = run.status;
        line->reason = run.status == "done" ? "finished without metrics" : reason_of(run);
      }
      table.notes.push_back(line->label + ": " + line->reason + ".");
    } else if (first) {
      for (const auto& [seed, run] : record.newest) {
        if (run->status == "done") continue;
        table.notes.push_back(line->label + ": run " + std::to_string(run->id) + " (seed " +
                              std::to_string(seed) + ") " + reason_of(*run) + ".");
      }
    }
  }
}

ReportTable table_of(SQLite::Database& db, const std::vector<RowRecord>& rows,
                     const Conditions& conditions, bool first, bool with_curves) {
  ReportTable table;
  std::tie(table.protocol, table.sample_count, table.weights, table.reference) = conditions;
  table.metrics = {"is", "fid", "sfid"};
  table.higher_is_better = {{"is", true}, {"fid", false}, {"sfid", false}};
  for (const auto& record : rows) {
    bool elsewhere = false;
    for (const auto& [seed, run] : record.done) {
      elsewhere = elsewhere || !run->metrics.empty();
      const auto measured = run->metrics.find(conditions);
      if (measured == run->metrics.end()) continue;
      for (const auto& metric : measured->second) {
        table.higher_is_better[metric.name] = metric.higher_is_better;
        if (std::find(table.metrics.begin(), table.metrics.end(), metric.name) ==
            table.metrics.end()) {
          table.metrics.push_back(metric.name);
        }
      }
    }
    auto line = line_of(db, record, conditions, with_curves);
    if (!line.runs.empty() || (first && !elsewhere)) table.lines.push_back(std::move(line));
  }
  mark_best(table);
  add_notes(table);
  for (const auto& record : rows) warn_of_mixed_settings(table, record, conditions);
  explain(table, rows, first);
  return table;
}

std::vector<ReportTable> gather_one(SQLite::Database& db, const std::string& experiment,
                                    const std::vector<ExpectedRow>& expected, bool with_curves) {
  const auto runs = load_runs(db, experiment);
  std::string title, scale;
  std::map<std::string, std::int64_t> order;
  SQLite::Statement about(db,
                          "SELECT e.title, e.scale, r.row, r.row_order FROM runs r "
                          "JOIN experiments e ON e.id = r.experiment WHERE e.name = ? ORDER BY r.id");
  about.bind(1, experiment);
  while (about.executeStep()) {
    title = about.getColumn(0).getString();
    scale = about.getColumn(1).getString();
    order[about.getColumn(2).getString()] = about.getColumn(3).getInt64();
  }
  const auto rows = group_rows(runs, experiment, expected, order);
  if (rows.empty()) {
    throw ConfigError("report", "no runs of experiment '" + experiment +
                                    "' are on record; `dkdm runs` lists those that are");
  }
  // The conditions of the newest run come first.
  std::map<Conditions, std::int64_t> newest;
  for (const auto& record : rows) {
    for (const auto& [seed, run] : record.done) {
      for (const auto& [conditions, list] : run->metrics) {
        newest[conditions] = std::max(newest[conditions], run->id);
      }
    }
  }
  std::vector<std::pair<std::int64_t, Conditions>> ordered;
  for (const auto& [conditions, run] : newest) ordered.emplace_back(-run, conditions);
  std::sort(ordered.begin(), ordered.end());
  if (ordered.empty()) ordered.emplace_back(0, Conditions{});
  std::vector<ReportTable> tables;
  for (const auto& [unused, conditions] : ordered) {
    auto& table = tables.emplace_back(table_of(db, rows, conditions, tables.empty(), with_curves));
    table.experiment = experiment;
    table.title = title.empty() ? experiment : title;
    table.scale = scale;
  }
  return tables;
}

}  // namespace

std::vector<ReportTable> gather(const std::filesystem::path& file,
                                const std::vector<std::string>& experiments,
                                const std::vector<ExpectedRow>& expected, bool with_curves) {
  Database database(file, OpenMode::read);
  return database.read([&](SQLite::Database& db) {
    auto names = experiments;
    if (names.empty()) {
      SQLite::Statement all(db, "SELECT experiment FROM run_status GROUP BY 1 ORDER BY min(run)");
      while (all.executeStep()) names.push_back(all.getColumn(0).getString());
    }
    std::vector<ReportTable> tables;
    for (const auto& name : names) {
      auto more = gather_one(db, name, expected, with_curves);
      std::move(more.begin(), more.end(), std::back_inserter(tables));
    }
    return tables;
  });
}

}  // namespace dkdm::results
