// Says on stderr what is being done, how far it is and how long the rest will take: one line that
// is rewritten on a terminal, plain lines now and then elsewhere. Leaves word of it for other
// processes too.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "dkdm/error.hpp"
#include "record/progress_file.hpp"

namespace dkdm::run {

class DKDM_API Progress {
 public:
  // `estimates` are seconds for each stage that has to be made, in order. `folder` is where other
  // processes look (progress_folder), "" = nothing is left there; `command` is what this process
  // does.
  explicit Progress(std::vector<double> estimates = {}, const std::filesystem::path& folder = {},
                    std::string command = "");
  ~Progress();

  // `key`: of the stage's output, "" = it has none.
  void begin(const std::string& label, const std::string& key = "");
  void update(const std::string& unit, std::int64_t done, std::int64_t total);
  void end();
  // A line of its own above the progress line.
  void say(const std::string& line);

  // Seconds that the current stage and everything after it should still take.
  double remaining_s() const;

 private:
  double elapsed_s() const;
  double current_remaining_s() const;
  void measure_rate();
  void show(const std::string& line);
  void clear();
  void leave_word();

  std::vector<double> estimates_;
  std::size_t current_ = 0;
  std::string command_, label_, key_, unit_;
  std::int64_t done_ = 0, total_ = 0, counted_done_ = 0;
  double each_s_ = 0;  // recent seconds a unit, 0 = not known yet
  bool running_ = false, terminal_ = false, line_open_ = false;
  double spent_s_ = 0, spent_estimate_s_ = 0;  // finished stages: how wrong the estimates are
  std::chrono::steady_clock::time_point started_, counted_from_, shown_, written_;
  record::ProgressFile file_;
};

// "42 s", "3:20 min", "1:05 h".
DKDM_API std::string duration_text(double seconds);

}  // namespace dkdm::run
