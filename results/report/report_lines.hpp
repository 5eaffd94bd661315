// Which runs stand behind each line of a report: the rule of results/README.md ("Which value a cell
// shows"). Internal to the report.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/record/records.hpp"
#include "results/report/report.hpp"
#include "results/report/report_source.hpp"

namespace dkdm::results {

// Values of one run, or of another that evaluated the same samples by another evaluator.
struct CellValues {
  const Run* run = nullptr;
  std::vector<Measured> list;
};

// One row at one seed under one configuration.
struct LineCell {
  const Run* counts = nullptr;   // the finished run of exactly this cell that counts; null: none
  const Run* newest = nullptr;   // of exactly this key; null: it never ran
  std::vector<const Run*> also;  // unfinished ones of further keys that were asked for: same
                                 // samples, another evaluator
  std::map<Conditions, CellValues> values;  // empty where no run counts
};

// One row under one configuration, at its seeds.
struct LineRecord {
  record::RunRecord row;  // of its first cell
  std::string setting;    // what sets it apart from other lines of its row; "" = it is alone
  std::map<std::int64_t, LineCell> cells;  // by seed
};

struct Lines {
  std::vector<LineRecord> lines;
  std::string title, scale, shape;
  std::vector<std::string>
      notes;  // where the choice of cells is from, pins, what else is on record
};

// The lines of one experiment. `runs` must outlive them. Throws ConfigError when there is nothing
// to show, or a variant that was asked for is not on record.
Lines choose_lines(SQLite::Database& db, const std::vector<Run>& runs,
                   const std::string& experiment, const ReportChoice& choice);

// "train.lr = 0.001 instead of 0.002": what `theirs` has otherwise than `ours`. How samples were
// evaluated is no difference of the samples. "" = nothing.
std::string setting_differences(const std::map<std::string, std::string>& ours,
                                const std::map<std::string, std::string>& theirs);

}  // namespace dkdm::results
