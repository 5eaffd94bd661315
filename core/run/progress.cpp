#include "run/progress.hpp"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>

#include "record/clock.hpp"

namespace dkdm::run {
namespace {

using record::Clock;
using record::seconds_since;

}  // namespace

std::string duration_text(double seconds) {
  const auto whole = static_cast<std::int64_t>(std::llround(std::max(0.0, seconds)));
  char text[32];
  if (whole < 60) std::snprintf(text, sizeof text, "%lld s", static_cast<long long>(whole));
  else if (whole < 3600)
    std::snprintf(text, sizeof text, "%lld:%02lld min", static_cast<long long>(whole / 60),
                  static_cast<long long>(whole % 60));
  else
    std::snprintf(text, sizeof text, "%lld:%02lld h", static_cast<long long>(whole / 3600),
                  static_cast<long long>(whole % 3600 / 60));
  return text;
}

Progress::Progress(std::vector<double> estimates, const std::filesystem::path& folder,
                   std::string command)
    : estimates_(std::move(estimates)), command_(std::move(command)),
      terminal_(::isatty(STDERR_FILENO)), file_(folder) {}

Progress::~Progress() { clear(); }

void Progress::begin(const std::string& label, const std::string& key) {
  label_ = label;
  key_ = key;
  unit_.clear();
  done_ = total_ = 0;
  each_s_ = 0;
  running_ = true;
  started_ = Clock::now();
  shown_ = {};
  show("");
  leave_word();
}

void Progress::leave_word() {
  written_ = Clock::now();
  record::ProgressRecord record;
  record.command = command_;
  record.label = label_;
  record.key = key_;
  record.stage = static_cast<std::int64_t>(current_) + 1;
  record.stages = static_cast<std::int64_t>(std::max(estimates_.size(), current_ + 1));
  record.unit = unit_;
  record.done = done_;
  record.total = total_;
  record.each_s = each_s_;
  record.stage_left_s = current_remaining_s();
  record.left_s = remaining_s();
  record.stage_started = record::unix_time() - elapsed_s();
  file_.write(std::move(record));
}

void Progress::update(const std::string& unit, std::int64_t done, std::int64_t total) {
  // A new kind of work within the stage, or the same once more: rates start afresh.
  if (unit != unit_ || done < done_) {
    unit_ = unit;
    each_s_ = 0;
    counted_done_ = done;
    counted_from_ = Clock::now();
  }
  done_ = done;
  total_ = total;
  measure_rate();
  if (seconds_since(written_) >= 1.0) leave_word();
  if (seconds_since(shown_) < (terminal_ ? 0.5 : 20.0)) return;
  const auto rate = record::rate_text(each_s_);
  show(std::to_string(done_) + "/" + std::to_string(total_) + " " + unit_ +
       (rate.empty() ? "" : " · " + rate));
}

// Averages over about half a minute, so that a machine that was busy for a while is not held
// against the rest of a long stage.
void Progress::measure_rate() {
  const double seconds = seconds_since(counted_from_);
  const double counted = double(done_ - counted_done_);
  if (counted <= 0 || seconds < 3.0) return;
  const double weight = each_s_ == 0 ? 1.0 : std::min(1.0, seconds / 30.0);
  each_s_ += weight * (seconds / counted - each_s_);
  counted_done_ = done_;
  counted_from_ = Clock::now();
}

void Progress::end() {
  if (!running_) return;
  running_ = false;
  spent_s_ += elapsed_s();
  if (current_ < estimates_.size()) spent_estimate_s_ += estimates_[current_];
  clear();
  std::fprintf(stderr, "[%zu/%zu] %s: %s\n", current_ + 1,
               std::max(estimates_.size(), current_ + 1), label_.c_str(),
               duration_text(elapsed_s()).c_str());
  ++current_;
}

void Progress::say(const std::string& line) {
  clear();
  std::fprintf(stderr, "%s\n", line.c_str());
}

double Progress::elapsed_s() const { return seconds_since(started_); }

double Progress::current_remaining_s() const {
  const double estimate = current_ < estimates_.size() ? estimates_[current_] : 0;
  if (each_s_ > 0) return each_s_ * double(total_ - done_);
  return std::max(0.0, estimate - elapsed_s());
}

double Progress::remaining_s() const {
  double later = 0;
  for (std::size_t i = current_ + 1; i < estimates_.size(); ++i) later += estimates_[i];
  const double rest = running_ ? current_remaining_s() : 0;
  // Estimates were made with short measurements; what finished stages really took corrects them.
  const double now_s = running_ ? elapsed_s() + rest : 0;
  const double now_estimate = running_ && current_ < estimates_.size() ? estimates_[current_] : 0;
  const double known = spent_estimate_s_ + now_estimate;
  const double correction = known > 5 ? std::clamp((spent_s_ + now_s) / known, 0.25, 4.0) : 1.0;
  return rest + later * correction;
}

void Progress::show(const std::string& detail) {
  shown_ = Clock::now();
  std::string line = "[" + std::to_string(current_ + 1) + "/" +
                     std::to_string(std::max(estimates_.size(), current_ + 1)) + "] " + label_;
  if (!detail.empty()) line += ": " + detail;
  line += " · ETA " + duration_text(remaining_s());
  if (terminal_) {
    std::fprintf(stderr, "\r\033[K%s", line.c_str());
    std::fflush(stderr);
    line_open_ = true;
  } else {
    std::fprintf(stderr, "%s\n", line.c_str());
  }
}

void Progress::clear() {
  if (!line_open_) return;
  std::fprintf(stderr, "\r\033[K");
  std::fflush(stderr);
  line_open_ = false;
}

}  // namespace dkdm::run
