// From rows of the database to the tables of a report.
#include <algorithm>
#include <cmath>
#include <iterator>
#include <set>

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
  std::int64_t parameters = 0, order = 0;
  std::map<std::int64_t, const Run*> done, newest;
};

std::vector<RowRecord> group_rows(const std::vector<Run>& runs, const std::string& experiment,
                                  const std::vector<ExpectedRow>& expected) {
  std::vector<RowRecord> rows;
  bool listed = false;
  for (const auto& row : expected) {
    if (row.experiment != experiment) continue;
    rows.push_back({row, false, 0, 0, {}, {}});
    listed = true;
  }
  for (const auto& run : runs) {
    auto found = std::find_if(rows.begin(), rows.end(),
                              [&](const RowRecord& r) { return r.row.row == run.row; });
    if (found == rows.end()) {
      if (listed) continue;
      rows.push_back({{experiment, run.row, "", "", ""}, false, 0, 0, {}, {}});
      found = std::prev(rows.end());
    }
    if (!listed) {
      found->row = {experiment, run.row, run.label, run.published_section, run.published_row};
    }
    found->teacher = run.method.empty();
    found->parameters = run.parameters;
    found->order = run.row_order;
    found->newest[run.seed] = &run;
    if (run.status == "done") found->done[run.seed] = &run;
  }
  if (!listed) {
    std::stable_sort(rows.begin(), rows.end(),
                     [](const RowRecord& a, const RowRecord& b) { return a.order < b.order; });
  }
  return rows;
}

// The leading metric by step, over the seeds that were evaluated there.
std::vector<ProgressPoint> progress_of(const RowRecord& record, const Conditions& conditions,
                                       const std::string& leading) {
  struct Values {
    std::map<std::int64_t, double> by_seed;
    std::vector<double> teacher_evaluations;
  };
  std::map<std::int64_t, Values> steps;
  for (const auto& [seed, run] : record.done) {
    const auto measured = run->metrics.find(conditions);
    if (measured == run->metrics.end()) continue;
    for (const auto& metric : measured->second) {
      if (metric.name != leading || !std::isfinite(metric.value)) continue;
      auto& values = steps[metric.step];
      if (values.by_seed.insert_or_assign(seed, metric.value).second) {
        values.teacher_evaluations.push_back(run->teacher_evaluations(metric.step));
      }
    }
  }
  std::vector<ProgressPoint> points;
  for (const auto& [step, values] : steps) {
    std::vector<double> list;
    for (const auto& [seed, value] : values.by_seed) list.push_back(value);
    points.push_back({static_cast<double>(step), estimate(values.teacher_evaluations).mean,
                      estimate(list)});
  }
  return points;
}

ReportRun report_run(SQLite::Database& db, const Run& run, bool counts, bool with_loss) {
  ReportRun out{run.id, run.seed, run.status, "", "", counts, {}};
  if (run.status != "done") out.reason = reason_of(run);
  // Samples that were not kept have their picture where they were evaluated.
  for (const char* stage : {"evaluate", "sample"}) {
    const auto* made = run.find_stage(stage);
    if (made != nullptr && !made->artifact.empty()) out.samples = made->artifact;
  }
  if (const auto* trained = run.trained(); trained != nullptr && with_loss) {
    out.loss = load_curve(db, trained->key);
  }
  return out;
}

ReportLine line_of(const RowRecord& record, const Conditions& conditions) {
  ReportLine line;
  line.row = record.row.row;
  line.label = record.row.label.empty() ? record.row.row : record.row.label;
  line.teacher = record.teacher;
  line.parameters = record.parameters;
  std::map<std::string, std::vector<double>> values;
  std::vector<double> seconds;
  for (const auto& [seed, run] : record.done) {
    const auto measured = run->metrics.find(conditions);
    if (measured == run->metrics.end()) continue;
    std::map<std::string, double> last;  // of the steps
    std::set<std::int64_t> steps;
    for (const auto& metric : measured->second) {
      last[metric.name] = metric.value;
      steps.insert(metric.step);
    }
    line.steps = std::max(line.steps, steps.size());
    for (const auto& [name, value] : last) values[name].push_back(value);
    if (const auto* trained = run->trained()) seconds.push_back(trained->elapsed_s);
    line.runs.push_back(run->id);
  }
  for (const auto& [name, list] : values) line.metrics[name] = estimate(list);
  if (!seconds.empty()) line.train_seconds = estimate(seconds).mean;
  line.status = line.runs.empty() ? "not run" : "done";
  return line;
}

// What figures and run sections need beyond the table.
void add_figures(SQLite::Database& db, const RowRecord& record, const Conditions& conditions,
                 const std::string& leading, ReportLine& line) {
  constexpr std::size_t kWithLoss = 8;
  const auto add = [&](const Run& run, bool counts) {
    line.all_runs.push_back(report_run(db, run, counts, line.all_runs.size() < kWithLoss));
  };
  for (const auto& [seed, run] : record.newest) {
    const auto done = record.done.find(seed);
    const bool counts = done != record.done.end() && done->second->metrics.count(conditions) > 0;
    if (done != record.done.end() && done->second != run) add(*done->second, counts);
    add(*run, counts && done->second == run);
  }
  line.progress = progress_of(record, conditions, leading);
  if (!record.newest.empty() && !record.teacher) {
    line.rho = load_rho(db, record.newest.begin()->second->id);
  }
}

// The paper's metrics that nothing here has, ours or published, once anything was evaluated.
void drop_empty_columns(ReportTable& table) {
  if (table.sample_count == 0) return;
  const auto empty = [&](const std::string& name) {
    return std::none_of(table.lines.begin(), table.lines.end(), [&](const ReportLine& line) {
      return line.metrics.count(name) > 0 || line.published.count(name) > 0;
    });
  };
  table.metrics.erase(std::remove_if(table.metrics.begin(), table.metrics.end(), empty),
                      table.metrics.end());
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
  bool spread = false, published = false, several_steps = false;
  for (const auto& line : table.lines) {
    several_steps = several_steps || line.steps > 1;
    published = published || !line.published.empty();
    for (const auto& [name, value] : line.metrics) spread = spread || value.std.has_value();
  }
  if (spread) table.notes.push_back("± is the standard deviation over seeds.");
  if (published && !compares_with_paper(table)) {
    table.notes.push_back(
        "The paper's values were measured with Inception features and 50,000 samples: compare the "
        "order of the rows, not the numbers.");
  }
  if (several_steps) {
    table.notes.push_back("Values are of each run's last evaluated step.");
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
      table.notes.push_back(shortened(line->label, kLabelWidth) + ": " +
                            shortened(line->reason, kReasonWidth) + ".");
    } else if (first) {
      constexpr int kNamed = 3;
      int failed = 0;
      for (const auto& [seed, run] : record.newest) {
        if (run->status == "done" || ++failed > kNamed) continue;
        table.notes.push_back(shortened(line->label, kLabelWidth) + ": run " +
                              std::to_string(run->id) + " (seed " + std::to_string(seed) + ") " +
                              shortened(reason_of(*run), kReasonWidth) + ".");
      }
      if (failed > kNamed) {
        table.notes.push_back(shortened(line->label, kLabelWidth) + ": " +
                              std::to_string(failed - kNamed) + " more runs without an end; the view "
                              "`failures` lists them.");
      }
    }
  }
}

// `table` has its title; `first`: it is the experiment's first table.
void fill(ReportTable& table, SQLite::Database& db, const std::vector<RowRecord>& rows,
          const Conditions& conditions, bool first, Depth depth) {
  std::tie(table.protocol, table.sample_count, table.weights, table.reference) = conditions;
  table.metrics = {"is", "fid", "sfid"};
  table.higher_is_better = {{"is", true}, {"fid", false}, {"sfid", false}};
  std::vector<const RowRecord*> shown;
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
    auto line = line_of(record, conditions);
    if (line.runs.empty() && (!first || elsewhere)) continue;
    line.published = load_published(db, record.row.published_section, record.row.published_row);
    table.lines.push_back(std::move(line));
    shown.push_back(&record);
  }
  drop_empty_columns(table);
  if (depth == Depth::figures) {
    const auto leading = leading_metric(table);
    for (std::size_t i = 0; i < shown.size(); ++i) {
      add_figures(db, *shown[i], conditions, leading, table.lines[i]);
    }
  }
  mark_best(table);
  add_notes(table);
  for (const auto& record : rows) warn_of_mixed_settings(table, record, conditions);
  explain(table, rows, first);
}

std::vector<ReportTable> gather_one(SQLite::Database& db, const std::string& experiment,
                                    const std::vector<ExpectedRow>& expected, Depth depth) {
  const auto runs = load_runs(db, experiment);
  const auto rows = group_rows(runs, experiment, expected);
  if (rows.empty()) {
    throw ConfigError("report", "no runs of experiment '" + experiment +
                                    "' are on record; `dkdm runs` lists those that are");
  }
  // The conditions of the newest run come first.
  std::vector<Conditions> ordered;
  for (auto run = runs.rbegin(); run != runs.rend(); ++run) {
    const bool counts = std::any_of(rows.begin(), rows.end(), [&](const RowRecord& record) {
      const auto done = record.done.find(run->seed);
      return done != record.done.end() && done->second == &*run;
    });
    if (!counts) continue;
    for (const auto& [conditions, list] : run->metrics) {
      if (std::find(ordered.begin(), ordered.end(), conditions) == ordered.end()) {
        ordered.push_back(conditions);
      }
    }
  }
  if (ordered.empty()) ordered.emplace_back();
  std::vector<ReportTable> tables;
  for (const auto& conditions : ordered) {
    auto& table = tables.emplace_back();
    table.experiment = experiment;
    table.title = runs.empty() || runs.back().title.empty() ? experiment : runs.back().title;
    table.scale = runs.empty() ? "" : runs.back().scale;
    fill(table, db, rows, conditions, tables.size() == 1, depth);
  }
  return tables;
}

}  // namespace

std::vector<ReportTable> gather(const std::filesystem::path& file,
                                const std::vector<std::string>& experiments,
                                const std::vector<ExpectedRow>& expected, Depth depth) {
  Database database(file, OpenMode::read);
  return database.read([&](SQLite::Database& db) {
    auto names = experiments;
    if (names.empty()) {
      SQLite::Statement all(db, "SELECT e.name FROM experiments e JOIN runs r ON r.experiment = e.id "
                                "GROUP BY e.name ORDER BY min(r.id)");
      while (all.executeStep()) names.push_back(all.getColumn(0).getString());
    }
    std::vector<ReportTable> tables;
    for (const auto& name : names) {
      auto more = gather_one(db, name, expected, depth);
      std::move(more.begin(), more.end(), std::back_inserter(tables));
    }
    return tables;
  });
}

}  // namespace dkdm::results
