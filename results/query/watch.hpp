// What a store is at work on just now, and what ended last: from the database, which is only read,
// and from the files that running processes leave (core/record/progress_file.hpp).
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/record/progress_file.hpp"
#include "results/text/table.hpp"
#include "results/text/text_plot.hpp"

namespace dkdm::results {

// Whether the process of a run that is recorded as running is there. Of another host it cannot be
// known, unless it left word a moment ago in a folder that both see.
enum class Life { alive, gone, unknown };

struct WatchedRun {
  std::int64_t id = 0, seed = 0, pid = 0;
  std::string experiment, row, label, status, stage, message, host, process;
  double started = 0;           // of the attempt; Unix seconds
  std::optional<double> ended;  // none: recorded as running
  Life life = Life::alive;      // of a running one
  std::string value;            // of a finished one: "FID@512 9.01"
};

struct Watched {
  double now = 0;
  std::string file;
  std::map<std::string, std::int64_t> counts;    // status of the runs' last attempts -> how many
  std::vector<WatchedRun> running;               // oldest first
  std::vector<WatchedRun> ended;                 // last first
  std::vector<record::ProgressRecord> progress;  // of processes that are there
  // By the key of a stage under way: name of a curve -> its points so far.
  std::map<std::string, std::map<std::string, Points>> curves;
};

// `records` is all that was found in the store's progress folder, `ended` how many runs that ended
// are wanted. Waits at most two seconds for a lock. Throws StoreError when the file cannot be read.
Watched look(const std::filesystem::path& file, const std::vector<record::ProgressRecord>& records,
             std::size_t ended);

struct WatchStyle {
  int columns = 80;  // 0 = no limit
  bool utf8 = true, colour = false;
};

// For a person: what runs, with bar, rate, ETA and curves; what is gone, and what helps; what
// ended.
std::string watch_text(const Watched& watched, const WatchStyle& style);

// For a program: a row for each process or run under way, then for each run that ended. Columns:
// run, experiment, row, seed, state ("running", "gone", "unknown", or how it ended), host, pid,
// stage, unit, done, total, rate_s, stage_left_s, left_s, loss, message.
Table watch_table(const Watched& watched);

}  // namespace dkdm::results
