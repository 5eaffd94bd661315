// The contents of a report, before any format. Internal to results/.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "results/report.hpp"
#include "results/table.hpp"

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

struct ReportLine {
  std::string row, label;
  bool teacher = false;
  std::string status;                         // "done", "failed", …, "not run"
  std::string reason;                         // why there is no value; "" when done
  std::map<std::string, Estimate> metrics;    // by metric name, at the last evaluated step
  std::map<std::string, double> published;
  std::int64_t parameters = 0;                // 0 = unknown
  std::optional<double> train_seconds;        // mean over seeds
  std::vector<std::int64_t> runs;             // that the values are from
  std::size_t steps = 0;                      // evaluated, of the run that has most
  // Below: only with Depth::figures.
  std::vector<ReportRun> all_runs;            // by seed; the first few with their loss
  std::optional<double> rho;                  // of a method that has one
  std::vector<ProgressPoint> progress;        // by step
};

struct ReportTable {
  std::string experiment, title, scale;
  std::string protocol, reference, weights;
  std::int64_t sample_count = 0;      // 0 = nothing was evaluated yet
  std::vector<std::string> metrics;   // columns
  std::map<std::string, bool> higher_is_better;
  std::vector<ReportLine> lines;
  std::vector<std::string> notes;     // sentences below the table
};

// Columns that a label and a reason may take where a person reads them; csv and json have all.
constexpr int kLabelWidth = 80, kReasonWidth = 300;

enum class Depth { table, figures };

// The tables of the experiments: at least one for each.
std::vector<ReportTable> gather(const std::filesystem::path& file,
                                const std::vector<std::string>& experiments,
                                const std::vector<ExpectedRow>& expected, Depth depth);

// Whether our numbers may be held against the paper's: its scale, evaluator and sample count.
bool compares_with_paper(const ReportTable& table);
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

// "Title: protocol, 512 samples, EMA weights, reference 1a2b3c".
std::string caption_of(const ReportTable& table);
// The table a person reads: ours, the paper's (with ours minus it where they compare), parameters,
// seconds, seeds. Best values are strong. A row for each line; a metric's column is 1 + its index.
Table display_table(const ReportTable& table);

std::string render_csv(const std::vector<ReportTable>& tables);
std::string render_json(const std::vector<ReportTable>& tables);
std::string render_latex(const std::vector<ReportTable>& tables);
// One self-contained page. `file` is the database; grids are looked for below `root` ("" = none).
std::string render_html(const std::filesystem::path& file, const std::vector<ReportTable>& tables,
                        const std::filesystem::path& root);

}  // namespace dkdm::results
