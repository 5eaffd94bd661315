// How far a process is, as it leaves word of it for others: one small file a process, in a folder
// of the store. Nothing depends on these files: they may be deleted at any time.
#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "dkdm/error.hpp"

namespace dkdm::record {

// What the process was at when it wrote. Times are Unix seconds by its own clock.
struct ProgressRecord {
  std::string host, process;  // process: its token (record/process.hpp)
  std::int64_t pid = 0;
  std::string command;     // "run", "eval", …; "" where it was not said
  std::string label, key;  // of the stage: "train dynamic", its content key ("" = has none)
  std::int64_t stage = 0, stages = 0;  // the stage's number from 1, and how many there are
  std::string unit;                    // of done and total: "steps", "images"; "" = not said yet
  std::int64_t done = 0, total = 0;
  double each_s = 0;                    // recent seconds a unit, 0 = not known yet
  double stage_left_s = 0, left_s = 0;  // estimates: of the stage, of all the process has to do
  double stage_started = 0, written = 0;
};

// The folder of these files below a store's root.
inline std::filesystem::path progress_folder(const std::filesystem::path& root) {
  return root / "progress";
}

// "0.24 s/it", "11 it/s"; "" for a rate that is not known.
inline std::string rate_text(double each_s) {
  char text[48] = "";
  if (each_s >= 0.1) std::snprintf(text, sizeof text, "%.2f s/it", each_s);
  else if (each_s > 0) std::snprintf(text, sizeof text, "%.0f it/s", 1 / each_s);
  return text;
}

// One process's file, replaced as a whole by each `write` and removed when this object ends. What
// cannot be written is left out: a full disk stops no training. A child after a fork writes
// nothing.
class DKDM_API ProgressFile {
 public:
  // Removes what processes of this host left that are gone. `folder` "" = writes nothing.
  explicit ProgressFile(const std::filesystem::path& folder);
  ~ProgressFile();
  ProgressFile(const ProgressFile&) = delete;
  ProgressFile& operator=(const ProgressFile&) = delete;

  // Fills host, process, pid and written.
  void write(ProgressRecord record);

 private:
  std::filesystem::path file_;
  std::int64_t pid_ = 0;
  std::string host_, process_;
};

// All that can be read in `folder`; a file that is damaged or of another dkdm is passed over.
DKDM_API std::vector<ProgressRecord> read_progress(const std::filesystem::path& folder);

}  // namespace dkdm::record
