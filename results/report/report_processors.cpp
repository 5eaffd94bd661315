// Which digits of a table are not the methods': values of one configuration differ between
// processors, under kernels that do not repeat, and with the precision of the training.
#include <cmath>
#include <set>

#include "results/report/report_data.hpp"
#include "results/store/database.hpp"

namespace dkdm::results {
namespace {

// What networks computed on decides the order of sums: the same text, the same digits. Of an
// accelerator its kind is named, not its number, nor the processor beside it.
constexpr const char* kMachineSql =
    "SELECT CASE WHEN device = 'cpu' THEN cpu WHEN gpu = '' THEN device ELSE gpu END, "
    "CASE WHEN device = 'cpu' THEN cpu_features ELSE '' END, "
    "CASE WHEN device = 'cpu' THEN '' WHEN instr(device, ':') = 0 THEN device "
    "ELSE substr(device, 1, instr(device, ':') - 1) END, host, repeatable, precision "
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
    "a.weights = ? AND ((ma.device = 'cpu') <> (mb.device = 'cpu') OR "
    "ma.device = 'cpu' AND (ma.cpu <> mb.cpu OR ma.cpu_features <> mb.cpu_features) OR "
    "ma.device <> 'cpu' AND ma.gpu <> mb.gpu) "
    "ORDER BY abs(a.value - b.value) DESC LIMIT 1";

struct Twins {
  std::string row;
  std::int64_t seed = 0;
  double here = 0, there = 0;
  double apart() const { return std::abs(here - there); }
};

// What the values of a table were made with.
struct Machines {
  std::set<std::tuple<std::string, std::string, std::string>> kinds;  // name, instructions, device
  std::set<std::string> names;                                        // with their hosts
  std::vector<std::string> fast;                                      // lines, of --fast
  std::map<std::string, std::vector<std::string>> precisions;         // but fp32 -> lines
  bool fp32 = false;                                                  // there is a line of fp32
};

std::string list_of(const std::vector<std::string>& names) {
  std::string list;
  for (const auto& name : names) list += (list.empty() ? "" : ", ") + name;
  return list;
}

Machines machines_of(SQLite::Database& db, const ReportTable& table) {
  Machines found;
  SQLite::Statement machine(db, kMachineSql);
  for (const auto& line : table.lines) {
    std::size_t fast = 0;
    std::set<std::string> precisions;
    for (const auto run : line.runs) {
      machine.reset();
      machine.bind(1, run);
      if (!machine.executeStep()) continue;
      const auto name = machine.getColumn(0).getString(), device = machine.getColumn(2).getString();
      found.kinds.emplace(name, machine.getColumn(1).getString(), device);
      found.names.insert(name + " (" + (device.empty() ? "" : device + ", ") +
                         machine.getColumn(3).getString() + ")");
      fast += machine.getColumn(4).getInt() == 0 ? 1 : 0;
      precisions.insert(machine.getColumn(5).getString());
    }
    const auto label = shortened(line.label, kLabelWidth);
    if (fast > 0)
      found.fast.push_back(fast == line.runs.size()
                               ? label
                               : label + " (" + std::to_string(fast) + " of " +
                                     std::to_string(line.runs.size()) + " runs)");
    for (const auto& precision : precisions) {
      if (precision == "fp32") found.fp32 = true;
      else found.precisions[precision].push_back(label);
    }
  }
  return found;
}

std::optional<Twins> widest_twins(SQLite::Database& db, const ReportTable& table) {
  std::optional<Twins> widest;
  SQLite::Statement twin(db, kTwinsSql);
  for (const auto& line : table.lines) {
    for (const auto run : line.runs) {
      twin.reset();
      twin.bind(1, run);
      twin.bind(2, leading_metric(table));
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
  return widest;
}

}  // namespace

std::vector<std::string> processor_notes(SQLite::Database& db, const ReportTable& table) {
  const auto machines = machines_of(db, table);
  std::vector<std::string> notes;
  if (machines.kinds.size() > 1) {
    constexpr std::size_t kNamed = 4;
    std::string list;
    std::size_t number = 0;
    for (const auto& name : machines.names)
      if (++number <= kNamed) list += (list.empty() ? "" : ", ") + name;
    if (number > kNamed) list += ", …";
    notes.push_back("Values are from " + std::to_string(machines.kinds.size()) +
                    " kinds of processor: " + list +
                    ". Each rounds float32 sums in its own order, so the last digits are the "
                    "machine's.");
  }
  if (const auto widest = widest_twins(db, table)) {
    const auto leading = leading_metric(table);
    const int decimals = metric_decimals(leading);
    const auto shown = [&](double value) { return estimate_text({value, {}, 1, false}, decimals); };
    notes.push_back("The same configuration gave " + metric_title(leading) + " " +
                    shown(widest->here) + " and " + shown(widest->there) +
                    " on two kinds of processor (" + widest->row + ", seed " +
                    std::to_string(widest->seed) + "): between machines, differences up to " +
                    shown(widest->apart()) + " say nothing about the methods.");
  }
  if (!machines.fast.empty())
    notes.push_back("Made with --fast: " + list_of(machines.fast) +
                    ". Its kernels do not repeat their last bits, so the same command on the same "
                    "machine may give other last digits.");
  for (const auto& [precision, lines] : machines.precisions)
    notes.push_back("Trained in " + precision + " (train.precision): " + list_of(lines) + ".");
  if (!machines.precisions.empty() && machines.fp32) notes.back() += " The other rows are in fp32.";
  return notes;
}

}  // namespace dkdm::results
