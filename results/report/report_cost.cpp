// What training took: the table of the paper's Section 10.
#include <algorithm>
#include <cmath>

#include "results/report/report_data.hpp"

namespace dkdm::results {
namespace {

// The mean over those runs that have it.
class Mean {
 public:
  void add(const SQLite::Column& value) {
    if (value.isNull()) return;
    sum_ += value.getDouble();
    ++count_;
  }
  std::optional<double> value() const {
    return count_ > 0 ? std::optional(sum_ / count_) : std::nullopt;
  }

 private:
  double sum_ = 0;
  int count_ = 0;
};

// Three digits, as these are known: 0.0123, 1.23, 123.
Cell three_digits(const std::optional<double>& value) {
  if (!value) return "—";
  const int before = *value > 0 ? static_cast<int>(std::floor(std::log10(*value))) + 1 : 1;
  return fixed(*value, *value > 0 ? std::clamp(3 - before, 0, 6) : 0);
}

Cell megabytes(const std::optional<double>& bytes) {
  return three_digits(bytes ? std::optional(*bytes / 1e6) : std::nullopt);
}

}  // namespace

std::optional<TrainingCost> training_cost(SQLite::Database& db,
                                          const std::vector<std::int64_t>& runs) {
  SQLite::Statement one(db,
                        "SELECT peak_bytes, held_bytes, steps_per_second, examples_per_second, "
                        "teacher_share, device_peak_bytes FROM section10 WHERE run = ?");
  double peak = -1, device_peak = 0;
  bool on_device = true;
  Mean held, steps, examples, share;
  for (const auto run : runs) {
    one.reset();
    one.bind(1, run);
    if (!one.executeStep()) continue;
    peak = std::max(peak, one.getColumn(0).getDouble());
    held.add(one.getColumn(1));
    steps.add(one.getColumn(2));
    examples.add(one.getColumn(3));
    share.add(one.getColumn(4));
    // Two kinds of memory have no common most.
    on_device &= !one.isColumnNull(5);
    if (on_device) device_peak = std::max(device_peak, one.getColumn(5).getDouble());
  }
  if (peak < 0) return std::nullopt;
  return TrainingCost{peak,
                      on_device ? std::optional(device_peak) : std::nullopt,
                      held.value(),
                      steps.value(),
                      examples.value(),
                      share.value()};
}

std::string memory_note(const ReportTable& table) {
  std::string of_device, of_process;
  for (const auto& line : table.lines) {
    if (!line.cost) continue;
    auto& list = line.cost->device_peak_bytes ? of_device : of_process;
    list += (list.empty() ? "" : ", ") + shortened(line.label, kLabelWidth);
  }
  const std::string device = "of the device that networks computed on, in tensors";
  if (of_device.empty() && of_process.empty()) return "";
  if (of_device.empty()) return "Peak memory is the process's, while it trained.";
  if (of_process.empty()) return "Peak memory is that " + device + ".";
  return "Peak memory is that " + device + ": " + of_device +
         "; that of the process, which trained on the CPU: " + of_process +
         ". The two do not compare.";
}

Table cost_table(const TableGroup& group) {
  const auto& of = *group.front();
  Table table;
  table.columns = {{"Method"}};
  for (const char* title : {"Peak memory (MB)", "Held set (MB)", "Steps/s", "Examples/s",
                            "Teacher's share (%)", "Parameters"})
    table.columns.push_back({title, Align::right});
  for (const auto& line : of.lines) {
    auto& row = table.rows.emplace_back();
    row.emplace_back(shortened(line.label, kLabelWidth));
    if (!line.cost) {
      row.emplace_back(line.status);
      row.back().fault = line.status != "not run" && line.status != "running";
      row.resize(table.columns.size(), Cell("—"));
      continue;
    }
    row.push_back(megabytes(line.cost->device_peak_bytes.value_or(line.cost->peak_bytes)));
    row.push_back(megabytes(line.cost->held_bytes));
    row.push_back(three_digits(line.cost->steps_per_second));
    row.push_back(three_digits(line.cost->examples_per_second));
    const auto share = line.cost->teacher_share;
    row.push_back(share ? Cell(fixed(100 * *share, 0)) : Cell("—"));
    row.push_back(line.parameters > 0 ? count_text(static_cast<double>(line.parameters)) : "—");
  }
  return table;
}

}  // namespace dkdm::results
