// The table of `dkdm plan --memory`: what each stage takes of the device's memory, by what it is
// for.
#include "cli/memory_table.hpp"

#include <algorithm>
#include <cmath>
#include <set>

#include "run/footprint.hpp"

namespace dkdm::cli {
namespace {

// The parts of a stage's memory, as the columns of its table.
struct Part {
  const char* title;
  double stages::MemoryParts::* bytes;
};
constexpr Part kParts[] = {
    {"weights", &stages::MemoryParts::weights}, {"gradients", &stages::MemoryParts::gradients},
    {"moments", &stages::MemoryParts::moments}, {"ema", &stages::MemoryParts::ema},
    {"teacher", &stages::MemoryParts::teacher}, {"batch set", &stages::MemoryParts::batch_set},
    {"batch", &stages::MemoryParts::batch},     {"activations", &stages::MemoryParts::activations}};

results::Cell bytes_cell(double bytes) {
  if (std::isnan(bytes)) return {};
  results::Cell cell(bytes == 0 ? "0" : run::size_text(bytes));
  cell.raw = std::to_string(std::llround(bytes));
  return cell;
}

bool is_used(std::size_t stage, const run::Plan& plan) {
  for (const auto& planned : plan.runs)
    for (const auto& [_, index] : planned.stages)
      if (index == stage) return true;
  return false;
}

}  // namespace

results::Table memory_table(const Session::Planned& planned, const std::string& configuration,
                            const run::DeviceMemory& memory, std::vector<std::string>& shortfalls) {
  results::Table table;
  table.title =
      planned.experiment.name + (configuration.empty() ? "" : ", " + configuration) + ": memory" +
      (memory.bytes > 0 ? ", of which " + memory.owner + " has " + run::size_text(memory.bytes)
                        : "") +
      (memory.about.empty() ? "" : " (" + memory.about + ")");
  table.columns = {{"stage"}};
  for (const auto& part : kParts)
    table.columns.push_back({part.title, results::Align::right, true});
  table.columns.push_back({"total", results::Align::right, true});
  table.columns.push_back({"fits"});
  std::set<std::pair<std::string, std::string>> known;
  for (std::size_t i = 0; i < planned.plan.stages.size(); ++i) {
    const auto& stage = planned.plan.stages[i];
    const double total = stage.footprint.memory();
    // Samples that go straight into the evaluator are in the stage that reads them.
    if (total == 0 || stage.streamed || !is_used(i, planned.plan)) continue;
    std::vector<results::Cell> row{stage.label};
    for (const auto& part : kParts) row.push_back(bytes_cell(stage.footprint.parts.*part.bytes));
    row.push_back(bytes_cell(total));
    if (!known.emplace(stage.label, row.back().raw.value_or("")).second) continue;
    const auto text = run::shortfall(stage, memory);
    results::Cell fits;
    if (!std::isnan(total) && memory.bytes > 0) fits = text.empty() ? "yes" : "no";
    fits.fault = !text.empty();
    row.push_back(fits);
    table.rows.push_back(std::move(row));
    if (!text.empty() && std::find(shortfalls.begin(), shortfalls.end(), text) == shortfalls.end())
      shortfalls.push_back(text);
  }
  return table;
}

}  // namespace dkdm::cli
