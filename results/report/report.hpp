// The table of an experiment in the shape of the paper's Table 2, with the published values beside.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "core/record/records.hpp"

namespace dkdm::results {

enum class ReportFormat { text, markdown, csv, json, latex, html };

// The names above, and "md" and "tex". Throws ConfigError that lists them.
ReportFormat parse_report_format(const std::string& name);

// Which cells of the experiments a report shows. A cell is a row at one seed under one
// configuration.
struct ReportChoice {
  // The cells that a command planned, in the order of their table. Experiments without an entry
  // show what the last command on record asked for, and say so; or, where none is on record, each
  // row's configuration that was run last.
  std::vector<record::RunRecord> asked;
  // Variants (the beginning of their names, or what `dkdm report` calls them) that take the place
  // of what was asked for in their rows; "all" shows every one on record.
  std::vector<std::string> variants;
  // Keys as --set takes them, with their values: in each row that has such a setting, the
  // configuration on record that has these values and otherwise differs least from what was asked
  // for takes its place; a row without one is shown as not run. A key that no row has is a
  // ConfigError.
  std::vector<std::pair<std::string, std::string>> settings;
};

struct ReportOptions {
  ReportFormat format = ReportFormat::text;
  ReportChoice choice;
  // The artifact store, below which the page (html) finds the runs' sample grids. "" = no pictures.
  std::filesystem::path root;
  // The experiments side by side in one table (text, markdown, latex), as the paper's Table 2 has
  // its datasets: rows of one id are one row.
  bool wide = false;
  bool colour = false;  // text for a terminal …
  int columns = 0;      // … that is so wide; 0 = no limit
};

// A value is of a run of exactly the cell's key, the pinned one or the one begun last, or of
// another evaluation of the same samples; with several seeds, mean ± standard deviation (n - 1).
// Values of different protocols, references, sample counts or weights stand in columns of their
// own, side by side. A cell without a value says why and has no other configuration's. A run that
// was evaluated at several steps counts with the last. experiments {} = all on record. Throws
// ConfigError for an experiment with neither runs nor cells that were asked for, StoreError when
// `file` cannot be read. A missing grid is a note in the page, not an error.
std::string report(const std::filesystem::path& file, const std::vector<std::string>& experiments,
                   const ReportOptions& options = {});

// The cells that a recorded command asked for.
std::vector<record::RunRecord> requested_cells(const std::filesystem::path& file,
                                               std::int64_t request);

}  // namespace dkdm::results
