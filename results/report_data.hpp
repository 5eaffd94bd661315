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

struct ReportLine {
  std::string row, label;
  bool teacher = false;
  std::string status;                         // "done", "failed", …, "not run"
  std::string reason;                         // why there is no value; "" when done
  std::map<std::string, Estimate> metrics;    // by metric name
  std::map<std::string, double> published;
  std::int64_t parameters = 0;                // 0 = unknown
  std::optional<double> train_seconds;        // mean over seeds
  std::vector<std::int64_t> runs;             // that the values are from
  std::vector<std::pair<double, double>> curve;  // step, training loss (thinned; html only)
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

// The tables of one experiment: at least one. with_curves: fill `curve`.
std::vector<ReportTable> gather(const std::filesystem::path& file,
                                const std::vector<std::string>& experiments,
                                const std::vector<ExpectedRow>& expected, bool with_curves);

// "Title: protocol, 512 samples, EMA weights, reference 1a2b3c".
std::string caption_of(const ReportTable& table);
// The table a person reads: ours, the paper's, parameters, seconds, seeds. Best values are strong.
Table display_table(const ReportTable& table);

// One self-contained page.
std::string render_html(const std::vector<ReportTable>& tables,
                        const std::map<std::string, std::filesystem::path>& grids);

}  // namespace dkdm::results
