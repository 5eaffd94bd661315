// From rows of the database to the tables of a report.
#include <algorithm>
#include <cmath>
#include <iterator>
#include <set>

#include "results/report/report_data.hpp"
#include "results/report/report_lines.hpp"
#include "results/report/report_source.hpp"

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
  if (run.status == "interrupted")
    return "interrupted" + where + "; rerun the same command to resume";
  if (run.status == "running") return "running";
  return run.status + where + what;
}

// The leading metric by step, over the seeds that were evaluated there.
std::vector<ProgressPoint> progress_of(const LineRecord& record, const Conditions& conditions,
                                       const std::string& leading) {
  struct Values {
    std::map<std::int64_t, double> by_seed;
    std::vector<double> teacher_evaluations;
  };
  std::map<std::int64_t, Values> steps;
  for (const auto& [seed, cell] : record.cells) {
    const auto measured = cell.values.find(conditions);
    if (measured == cell.values.end()) continue;
    for (const auto& metric : measured->second.list) {
      if (metric.name != leading || !std::isfinite(metric.value)) continue;
      auto& values = steps[metric.step];
      if (values.by_seed.insert_or_assign(seed, metric.value).second) {
        values.teacher_evaluations.push_back(
            measured->second.run->teacher_evaluations(metric.step));
      }
    }
  }
  std::vector<ProgressPoint> points;
  for (const auto& [step, values] : steps) {
    std::vector<double> list;
    for (const auto& [seed, value] : values.by_seed) list.push_back(value);
    points.push_back(
        {static_cast<double>(step), estimate(values.teacher_evaluations).mean, estimate(list)});
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
  // Of another step than the last, the picture is where that was chosen.
  if (const auto* chosen = run.find_stage("select");
      chosen != nullptr && run.selected && !run.selected->is_last)
    out.samples = chosen->artifact;
  if (const auto* trained = run.trained(); trained != nullptr && with_loss) {
    out.loss = load_curve(db, trained->key);
  }
  return out;
}

// "Dynamic (method.rho = 0.1)" where the row has several lines.
std::string label_of(const LineRecord& record) {
  const auto label = record.row.label.empty() ? record.row.row : record.row.label;
  return record.setting.empty() ? label : label + " (" + record.setting + ")";
}

ReportLine line_of(const LineRecord& record, std::size_t place, const Conditions& conditions) {
  ReportLine line;
  line.place = place;
  line.row = record.row.row;
  line.variant = record.row.variant;
  line.setting = record.setting;
  line.label = label_of(record);
  line.teacher = record.row.method.empty();
  std::map<std::string, std::vector<double>> values, last;
  std::vector<double> seconds;
  for (const auto& [seed, cell] : record.cells) {
    const auto measured = cell.values.find(conditions);
    if (measured == cell.values.end()) continue;
    const auto* run = measured->second.run;
    std::set<std::int64_t> steps;
    std::map<std::string, double> of_last;
    for (const auto& metric : measured->second.list) {
      of_last[metric.name] = metric.value;
      steps.insert(metric.step);
    }
    line.steps = std::max(line.steps, steps.size());
    const auto counting = run->counting(measured->second.list);
    for (const auto& [name, metric] : counting.values) values[name].push_back(metric.value);
    for (const auto& [name, value] : of_last) last[name].push_back(value);
    if (counting.selected)
      line.selections.push_back(
          {seed, run->selected->step, run->selected->candidates, run->selected->rule});
    if (const auto* trained = run->trained()) {
      seconds.push_back(trained->elapsed_s);
      line.peak_bytes = std::max(line.peak_bytes, trained->peak_bytes);
      line.device_peak_bytes = std::max(line.device_peak_bytes, trained->device_peak_bytes);
    }
    line.parameters = run->parameters;
    line.pinned = line.pinned || cell.counts->pinned;
    line.runs.push_back(run->id);
  }
  for (const auto& [name, list] : values) line.metrics[name] = estimate(list);
  if (!line.selections.empty())
    for (const auto& [name, list] : last) line.last[name] = estimate(list);
  if (!seconds.empty()) line.train_seconds = estimate(seconds).mean;
  line.status = line.runs.empty() ? "not run" : "done";
  return line;
}

// What figures and run sections need beyond the table.
void add_figures(SQLite::Database& db, const LineRecord& record, const Conditions& conditions,
                 const std::string& leading, ReportLine& line) {
  constexpr std::size_t kWithLoss = 8;
  const auto add = [&](const Run& run, bool counts) {
    line.all_runs.push_back(report_run(db, run, counts, line.all_runs.size() < kWithLoss));
  };
  const Run* any = nullptr;
  for (const auto& [seed, cell] : record.cells) {
    const auto values = cell.values.find(conditions);
    const Run* shown = values == cell.values.end() ? cell.counts : values->second.run;
    if (shown != nullptr) add(*shown, values != cell.values.end());
    if (cell.newest != nullptr && cell.newest != shown && cell.newest->status != "done") {
      add(*cell.newest, false);
    }
    if (any == nullptr) any = shown != nullptr ? shown : cell.newest;
  }
  line.progress = progress_of(record, conditions, leading);
  if (any != nullptr && !line.teacher) line.rho = load_rho(db, any->id);
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

// "seed 0: 120000", or "120000" where there is one seed.
std::string steps_of(const ReportLine& line) {
  std::string text;
  for (const auto& [seed, step, candidates, rule] : line.selections) {
    text += text.empty() ? "" : ", ";
    if (line.selections.size() > 1) text += "seed " + std::to_string(seed) + ": ";
    text += std::to_string(step);
  }
  return text;
}

// Which rule made which numbers, and which steps they are of.
void note_selections(ReportTable& table) {
  std::map<std::string, std::string> steps;  // by rule
  std::string others;
  for (const auto& line : table.lines) {
    const auto label = shortened(line.label, kLabelWidth);
    if (line.selections.empty()) {
      if (line.teacher || line.metrics.empty()) continue;
      others += (others.empty() ? "" : ", ") + label;
      continue;
    }
    const auto& first = line.selections.front();
    auto& list = steps[first.rule];
    list += (list.empty() ? "" : "; ") + label + " " + steps_of(line) + " of " +
            std::to_string(first.candidates);
  }
  for (const auto& [rule, list] : steps)
    table.notes.push_back("Values are of the step that train.select = \"" + rule +
                          "\" chose among those that were evaluated (" + list +
                          "); \"last\" is the last step's value.");
  if (!steps.empty() && !others.empty())
    table.notes.push_back("Of their last step, and not to be compared with those: " + others + ".");
}

void add_notes(ReportTable& table) {
  bool spread = false, published = false, several_steps = false;
  for (const auto& line : table.lines) {
    several_steps = several_steps || (line.steps > 1 && line.selections.empty());
    published = published || !line.published.empty();
    for (const auto& [name, value] : line.metrics) spread = spread || value.std.has_value();
  }
  if (spread) table.notes.push_back("± is the standard deviation over seeds.");
  if (published && !compares_with_paper(table)) {
    table.notes.push_back(
        "The paper's values were measured with Inception features and 50,000 samples: compare the "
        "order of the rows, not the numbers.");
  }
  const bool selected = std::any_of(table.lines.begin(), table.lines.end(),
                                    [](const auto& line) { return !line.selections.empty(); });
  if (several_steps && !selected) {
    table.notes.push_back("Values are of each run's last evaluated step.");
  }
  note_selections(table);
}

bool evaluated(const LineRecord& record) {
  return std::any_of(record.cells.begin(), record.cells.end(),
                     [](const auto& cell) { return !cell.second.values.empty(); });
}

// The cells of a line that did not come to a value: why. At most a few are named.
void explain_cells(ReportTable& table, const LineRecord& record) {
  constexpr int kNamed = 3;
  const auto label = shortened(label_of(record), kLabelWidth);
  int failed = 0;
  std::string missing;
  const auto note = [&](std::int64_t seed, const Run& run) {
    if (++failed > kNamed) return;
    table.notes.push_back(label + ": run " + std::to_string(run.id) + " (seed " +
                          std::to_string(seed) + ") " + shortened(reason_of(run), kReasonWidth) +
                          ".");
  };
  for (const auto& [seed, cell] : record.cells) {
    if (cell.newest == nullptr) missing += (missing.empty() ? "" : ", ") + std::to_string(seed);
    else if (cell.newest->status != "done") note(seed, *cell.newest);
    for (const auto* run : cell.also) note(seed, *run);
  }
  if (!missing.empty()) {
    const bool several = missing.find(',') != std::string::npos;
    table.notes.push_back(label + ": seed" + (several ? "s " : " ") + missing + " not run yet.");
  }
  if (failed > kNamed) {
    table.notes.push_back(label + ": " + std::to_string(failed - kNamed) +
                          " more runs without an end; the view `failures` lists them.");
  }
}

// Lines without a value anywhere: why.
void explain(ReportTable& table, const std::vector<LineRecord>& records) {
  for (auto& line : table.lines) {
    const auto& record = records[line.place];
    if (!line.runs.empty()) continue;
    line.reason = "not run yet";
    const Run* newest = nullptr;
    for (const auto& [seed, cell] : record.cells) {
      if (cell.newest != nullptr) newest = cell.newest;
    }
    if (newest != nullptr) {
      line.status = newest->status;
      line.reason = newest->status == "done" ? "finished without metrics" : reason_of(*newest);
    }
    table.notes.push_back(shortened(line.label, kLabelWidth) + ": " +
                          shortened(line.reason, kReasonWidth) + ".");
  }
  for (const auto& record : records) {
    if (evaluated(record)) explain_cells(table, record);
  }
}

// `table` has its title; `first`: it is the experiment's first table, which has the lines without
// values.
void fill(ReportTable& table, SQLite::Database& db, const std::vector<LineRecord>& records,
          const Conditions& conditions, bool first, Depth depth) {
  std::tie(table.protocol, table.sample_count, table.weights, table.reference) = conditions;
  table.metrics = {"is", "fid", "sfid"};
  table.higher_is_better = {{"is", true}, {"fid", false}, {"sfid", false}};
  for (std::size_t place = 0; place < records.size(); ++place) {
    const auto& record = records[place];
    for (const auto& [seed, cell] : record.cells) {
      const auto measured = cell.values.find(conditions);
      if (measured == cell.values.end()) continue;
      for (const auto& metric : measured->second.list) {
        table.higher_is_better[metric.name] = metric.higher_is_better;
        if (std::find(table.metrics.begin(), table.metrics.end(), metric.name) ==
            table.metrics.end()) {
          table.metrics.push_back(metric.name);
        }
      }
    }
    auto line = line_of(record, place, conditions);
    if (table.shape == kCostShape) line.cost = training_cost(db, line.runs);
    if (line.runs.empty() && (!first || evaluated(record))) continue;
    line.published = load_published(db, record.row.published_section, record.row.published_row);
    table.lines.push_back(std::move(line));
  }
  drop_empty_columns(table);
  if (depth == Depth::figures) {
    const auto leading = leading_metric(table);
    for (auto& line : table.lines) add_figures(db, records[line.place], conditions, leading, line);
  }
  mark_best(table);
  add_notes(table);
  if (table.shape == kCostShape)
    if (const auto note = memory_note(table); !note.empty()) table.notes.push_back(note);
  const auto processors = processor_notes(db, table);
  table.notes.insert(table.notes.end(), processors.begin(), processors.end());
}

// How the cells were evaluated: first as their own runs did, the newest run's way first.
std::vector<Conditions> conditions_of(const std::vector<LineRecord>& records) {
  std::vector<const LineCell*> cells;
  for (const auto& record : records) {
    for (const auto& [seed, cell] : record.cells) {
      if (cell.counts != nullptr) cells.push_back(&cell);
    }
  }
  std::stable_sort(cells.begin(), cells.end(), [](const LineCell* a, const LineCell* b) {
    return std::tie(a->counts->created, a->counts->id) >
           std::tie(b->counts->created, b->counts->id);
  });
  std::vector<Conditions> ordered;
  const auto add = [&](const Conditions& conditions) {
    if (std::find(ordered.begin(), ordered.end(), conditions) == ordered.end()) {
      ordered.push_back(conditions);
    }
  };
  for (const auto* cell : cells) {
    if (const auto* own = cell->counts->own_conditions()) add(*own);
  }
  for (const auto* cell : cells) {
    for (const auto& [conditions, values] : cell->values) add(conditions);
  }
  if (ordered.empty()) ordered.emplace_back();
  return ordered;
}

std::vector<ReportTable> gather_one(SQLite::Database& db, const std::string& experiment,
                                    const ReportChoice& choice, Depth depth) {
  const auto runs = load_runs(db, experiment);
  const auto chosen = choose_lines(db, runs, experiment, choice);
  std::vector<ReportTable> tables;
  for (const auto& conditions : conditions_of(chosen.lines)) {
    auto& table = tables.emplace_back();
    table.experiment = experiment;
    table.title = chosen.title;
    table.scale = chosen.scale;
    table.shape = chosen.shape;
    fill(table, db, chosen.lines, conditions, tables.size() == 1, depth);
  }
  explain(tables.front(), chosen.lines);
  auto& notes = tables.front().notes;
  notes.insert(notes.end(), chosen.notes.begin(), chosen.notes.end());
  return tables;
}

}  // namespace

std::vector<ReportTable> gather(const std::filesystem::path& file,
                                const std::vector<std::string>& experiments,
                                const ReportChoice& choice, Depth depth) {
  Database database(file, OpenMode::read);
  return database.read([&](SQLite::Database& db) {
    auto names = experiments;
    if (names.empty()) {
      SQLite::Statement all(db,
                            "SELECT e.name FROM experiments e JOIN runs r ON r.experiment = e.id "
                            "GROUP BY e.name ORDER BY min(r.id)");
      while (all.executeStep()) names.push_back(all.getColumn(0).getString());
    }
    std::vector<ReportTable> tables;
    for (const auto& name : names) {
      auto more = gather_one(db, name, choice, depth);
      std::move(more.begin(), more.end(), std::back_inserter(tables));
    }
    return tables;
  });
}

std::vector<record::RunRecord> requested_cells(const std::filesystem::path& file,
                                               std::int64_t request) {
  return Database(file, OpenMode::read).read([&](SQLite::Database& db) {
    return load_request(db, request);
  });
}

}  // namespace dkdm::results
