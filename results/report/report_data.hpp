// The contents of a report, before any format. Internal to results/.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "results/report/report.hpp"
#include "results/store/database.hpp"
#include "results/text/table.hpp"

namespace dkdm::results {

struct Estimate {
  double mean = 0;
  std::optional<double> std;  // over seeds, n - 1; none for one seed
  int count = 0;              // seeds
  bool best = false;          // of the students in its table
};

// The leading metric of a row at one training step.
struct ProgressPoint {
  double step = 0, teacher_evaluations = 0;
  Estimate value;
};

// A run of a row that a reader may want to see: one that counts, or a newer one that failed.
struct ReportRun {
  std::int64_t id = 0, seed = 0;
  std::string status, reason;  // reason "" when done
  std::string samples;         // folder of their picture, relative to the store's root; "" = none
  bool counts = false;         // its values are in the table
  std::vector<std::pair<double, double>> loss;  // step, training loss (thinned)
};

// The training step that counts of one run, where a rule chose it.
struct LineSelection {
  std::int64_t seed = 0, step = 0, candidates = 0;
  std::string rule;
};

// What training took: the view section10, means over seeds.
struct TrainingCost {
  double peak_bytes = 0;                    // of the process, the most
  std::optional<double> device_peak_bytes;  // none where a run trained on the CPU
  std::optional<double> held_bytes, steps_per_second, examples_per_second, teacher_share;
};

struct ReportLine {
  std::size_t place = 0;         // in the experiment's table: lines of its ReportTables
                                 // with one place are one line, side by side
  std::string row, label;        // label: with what sets it apart from others of its row
  std::string variant, setting;  // of the configuration; what sets it apart, "" = alone
  bool pinned = false;
  bool teacher = false;
  std::string status;                       // "done", "failed", …, "not run"
  std::string reason;                       // why there is no value; "" when done
  std::map<std::string, Estimate> metrics;  // by metric name, at the step that counts
  // Where a rule chose that step: by seed, and the values of the last step.
  std::vector<LineSelection> selections;
  std::map<std::string, Estimate> last;
  std::optional<TrainingCost> cost;  // of an experiment that is about that
  std::map<std::string, double> published;
  std::int64_t parameters = 0;              // of the shown run; 0 = unknown
  std::optional<double> train_seconds;      // of the shown runs, mean over seeds
  std::int64_t peak_bytes = 0;              // of their training, the most; 0 = unknown
  std::optional<double> device_peak_bytes;  // the same of the device; none where all are of the CPU
  std::vector<std::int64_t> runs;           // that the values are from
  std::size_t steps = 0;                    // evaluated, of the run that has most
  // Below: only with Depth::figures.
  std::vector<ReportRun> all_runs;      // by seed; the first few with their loss
  std::optional<double> rho;            // of a method that has one
  std::vector<ProgressPoint> progress;  // by step
};

struct ReportTable {
  std::string experiment, title, scale;
  std::string shape;  // "section10": of what training took, not of metrics
  std::string protocol, reference, weights;
  std::int64_t sample_count = 0;     // 0 = nothing was evaluated yet
  std::vector<std::string> metrics;  // columns
  std::map<std::string, bool> higher_is_better;
  std::vector<ReportLine> lines;
  std::vector<std::string> notes;  // sentences below the table
};

// Columns that a label and a reason may take where a person reads them; csv and json have all.
constexpr int kLabelWidth = 80, kReasonWidth = 300;

enum class Depth { table, figures };

// The tables of the experiments: at least one for each.
std::vector<ReportTable> gather(const std::filesystem::path& file,
                                const std::vector<std::string>& experiments,
                                const ReportChoice& choice, Depth depth);

// The tables of one experiment, one for each way of evaluating, that stand side by side.
using TableGroup = std::vector<const ReportTable*>;
std::vector<TableGroup> side_by_side(const std::vector<ReportTable>& tables);
// The lines of the group in their order; for each, what each table has of it (null: nothing).
std::vector<std::vector<const ReportLine*>> lines_of(const TableGroup& group);

// Whether our numbers may be held against the paper's: its scale, evaluator and sample count.
bool compares_with_paper(const ReportTable& table);
// The notes of all tables of the group, each once.
std::vector<std::string> notes_of(const TableGroup& group);

// Sentences on what else than the methods decides digits: kinds of processor, which they are and
// how far apart they put one configuration where that is on record; kernels that do not repeat
// their bits
// (--fast); trainings in another precision than float32.
std::vector<std::string> processor_notes(SQLite::Database& db, const ReportTable& table);

// Metrics with a published value in the table, in the columns' order.
std::vector<std::string> published_metrics(const ReportTable& table);
// The metric that figures show: FID where there is one.
std::string leading_metric(const ReportTable& table);

// "FID"; names of our own stay as they are. "FID@512 ↓" as a column's title.
std::string metric_title(const std::string& name);
std::string metric_column(const ReportTable& table, const std::string& name);
int metric_decimals(const std::string& name);
// "9.56", "9.56 ± 0.21", "not finite".
std::string estimate_text(const Estimate& value, int decimals);

// "Title: protocol, 512 samples, EMA weights, reference 1a2b3c"; of several: "Title: [A] …; [B] …".
std::string caption_of(const TableGroup& group);
// The table a person reads: ours, a group of columns for each way of evaluating; the paper's (with
// ours minus it where they compare), parameters, seconds, seeds. Best values are strong. A row for
// each of lines_of; after the label come the metrics of the first table, of the second, ….
Table display_table(const TableGroup& group);

// Tables of this shape are about what training took.
inline constexpr const char* kCostShape = "section10";
Table cost_table(const TableGroup& group);
// Whose memory it shows, a sentence; "" = nothing is on record.
std::string memory_note(const ReportTable& table);
// The part of a line's cost, from the runs that are shown; none: nothing is on record.
std::optional<TrainingCost> training_cost(SQLite::Database& db,
                                          const std::vector<std::int64_t>& runs);

// "9.56 ± 0.21", strong where it is the best, with the number of seeds where that is not `runs`.
Cell value_cell(const Estimate& value, const std::string& metric, std::size_t runs);
// nullptr where the line has none, or is none.
const Estimate* estimate_of(const ReportLine* line, const std::string& metric);

// A table as a person reads it, its title a caption, and the sentences below it.
struct Sheet {
  Table table;
  std::vector<std::string> notes;
};
// One for each experiment.
std::vector<Sheet> sheets(const std::vector<ReportTable>& tables);
// One for all of them: a group of columns for each, named by what sets their titles apart, the
// paper's values in brackets; a row for each row id.
Sheet wide_sheet(const std::vector<ReportTable>& tables);

std::string render_csv(const std::vector<ReportTable>& tables);
std::string render_json(const std::vector<ReportTable>& tables);
std::string render_latex(const std::vector<Sheet>& sheets);
// One self-contained page. `file` is the database; grids are looked for below `root` ("" = none).
std::string render_html(const std::filesystem::path& file, const std::vector<ReportTable>& tables,
                        const std::filesystem::path& root);

}  // namespace dkdm::results
