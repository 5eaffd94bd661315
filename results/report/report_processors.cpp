// Which digits of a table are the machine's: values of one configuration differ between processors.
#include <cmath>
#include <set>

#include "results/report/report_data.hpp"
#include "results/store/database.hpp"

namespace dkdm::results {
namespace {

// What decides the order of sums: the same text, the same digits.
constexpr const char* kProcessorsSql =
    "SELECT cpu || CASE WHEN gpu = '' THEN '' ELSE ' + ' || gpu END, cpu_features, host "
    "FROM run_machines WHERE run = ?";

// Finished runs of one content key on two processors, by how far apart their values are.
constexpr const char* kTwinsSql =
    "SELECT a.row, a.seed, a.value, b.value FROM latest_metrics a "
    "JOIN runs ra ON ra.id = a.run JOIN runs rb ON rb.key = ra.key AND rb.id <> ra.id "
    "JOIN latest_metrics b ON b.run = rb.id AND b.name = a.name AND b.protocol = a.protocol AND "
    "b.reference = a.reference AND b.sample_count = a.sample_count AND b.weights = a.weights AND "
    "b.step = a.step "
    "JOIN run_machines ma ON ma.run = a.run JOIN run_machines mb ON mb.run = b.run "
    "WHERE a.run = ? AND a.name = ? AND a.protocol = ? AND a.reference = ? AND a.sample_count = ? AND "
    "a.weights = ? AND (ma.cpu <> mb.cpu OR ma.cpu_features <> mb.cpu_features OR ma.gpu <> mb.gpu) "
    "ORDER BY abs(a.value - b.value) DESC LIMIT 1";

struct Twins {
  std::string row;
  std::int64_t seed = 0;
  double here = 0, there = 0;
  double apart() const { return std::abs(here - there); }
};

}  // namespace

std::vector<std::string> processor_notes(SQLite::Database& db, const ReportTable& table) {
  std::set<std::pair<std::string, std::string>> processors;  // name and instruction sets
  std::set<std::string> names;
  std::optional<Twins> widest;
  const auto leading = leading_metric(table);
  SQLite::Statement machine(db, kProcessorsSql), twin(db, kTwinsSql);
  for (const auto& line : table.lines) {
    for (const auto run : line.runs) {
      machine.reset();
      machine.bind(1, run);
      if (machine.executeStep()) {
        const auto name = machine.getColumn(0).getString();
        processors.emplace(name, machine.getColumn(1).getString());
        names.insert(name + " (" + machine.getColumn(2).getString() + ")");
      }
      twin.reset();
      twin.bind(1, run);
      twin.bind(2, leading);
      twin.bind(3, table.protocol);
      twin.bind(4, table.reference);
      twin.bind(5, table.sample_count);
      twin.bind(6, table.weights);
      if (!twin.executeStep() || twin.isColumnNull(2) || twin.isColumnNull(3)) continue;
      const Twins found{twin.getColumn(0).getString(), twin.getColumn(1).getInt64(),
                        twin.getColumn(2).getDouble(), twin.getColumn(3).getDouble()};
      if (!widest || found.apart() > widest->apart()) widest = found;
    }
  }
  std::vector<std::string> notes;
  if (processors.size() > 1) {
    constexpr std::size_t kNamed = 4;
    std::string list;
    std::size_t number = 0;
    for (const auto& name : names)
      if (++number <= kNamed) list += (list.empty() ? "" : ", ") + name;
    if (number > kNamed) list += ", …";
    notes.push_back("Values are from " + std::to_string(processors.size()) +
                    " kinds of processor: " + list +
                    ". Each rounds float32 sums in its own order, so the last digits are the "
                    "machine's.");
  }
  if (widest) {
    const int decimals = metric_decimals(leading);
    const auto shown = [&](double value) { return estimate_text({value, {}, 1, false}, decimals); };
    notes.push_back("The same configuration gave " + metric_title(leading) + " " +
                    shown(widest->here) + " and " + shown(widest->there) +
                    " on two kinds of processor (" + widest->row + ", seed " +
                    std::to_string(widest->seed) + "): between machines, differences up to " +
                    shown(widest->apart()) + " say nothing about the methods.");
  }
  return notes;
}

}  // namespace dkdm::results
