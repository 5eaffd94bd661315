// The table of an experiment in the shape of the paper's Table 2, with the published values beside.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace dkdm::results {

enum class ReportFormat { text, markdown, csv, json, latex, html };

// The names above, and "md" and "tex". Throws ConfigError that lists them.
ReportFormat parse_report_format(const std::string& name);

// A row that the experiment file has, whether or not it ran.
struct ExpectedRow {
  std::string experiment, row, label;
  std::string published_section, published_row;  // "" = the paper has no such row
};

struct ReportOptions {
  ReportFormat format = ReportFormat::text;
  // Rows to show, in this order; one that never ran says so. Experiments without an entry show every
  // row on record, in the order of their files.
  std::vector<ExpectedRow> expected;
  // The artifact store, below which the page (html) finds the runs' sample grids. "" = no pictures.
  std::filesystem::path root;
  bool colour = false;  // text for a terminal …
  int columns = 0;      // … that is so wide; 0 = no limit
};

// A cell is the latest finished run of the row at each seed: the value, or mean ± standard deviation
// (n - 1) over seeds. Runs of one experiment that were evaluated by different protocols, references,
// sample counts or weights stand in different tables, never in one column. A row without a value
// says why. A run that was evaluated at several steps counts with the last. experiments {} = all on
// record. Throws ConfigError for an experiment with neither runs nor expected rows, StoreError when
// `file` cannot be read. A missing grid is a note in the page, not an error.
std::string report(const std::filesystem::path& file, const std::vector<std::string>& experiments,
                   const ReportOptions& options = {});

}  // namespace dkdm::results
