// Read from the runs' own records: metrics, the stage "evaluator", and the configuration of a run
// that has the protocol. Runs that evaluate the same samples are one: what another evaluator gave
// one of them is there. A prepared evaluator whose folder holds weights.safetensors takes them
// elsewhere as its parameter `weights` (plugins/README.md).
#include "results/admin/evaluators.hpp"

#include <algorithm>
#include <map>
#include <set>

#include "results/store/artifacts.hpp"
#include "results/store/database.hpp"
#include "results/store/settings.hpp"

namespace dkdm::results {
namespace {

namespace fs = std::filesystem;

// Samples stand for themselves by the newest run that evaluates them.
struct Found {
  // By protocol: those that have it, and the newest run that gave it.
  std::map<std::string, std::map<std::int64_t, std::int64_t>> runs;
};

// Of the samples that the last command of each experiment asked for; of all where none is on
// record.
std::map<std::string, Found> protocols(SQLite::Database& db, const std::string& experiment) {
  SQLite::Statement rows(
      db,
      "WITH wanted AS MATERIALIZED (SELECT DISTINCT experiment, samples FROM asked), "
      "measured AS MATERIALIZED (SELECT DISTINCT e.name AS experiment, r.samples, r.id AS run, m.protocol "
      "FROM metrics m JOIN runs r ON r.id = m.run JOIN experiments e ON e.id = r.experiment "
      "WHERE e.name <> 'eval' AND (?1 = '' OR e.name = ?1)) "
      "SELECT experiment, protocol, max(max(run)) OVER (PARTITION BY experiment, samples) AS cell, max(run) "
      "FROM measured f WHERE EXISTS (SELECT 1 FROM wanted w WHERE w.experiment = f.experiment AND "
      "w.samples = f.samples) OR NOT EXISTS (SELECT 1 FROM wanted w WHERE w.experiment = f.experiment) "
      "GROUP BY experiment, samples, protocol");
  rows.bind(1, experiment);
  std::map<std::string, Found> found;
  while (rows.executeStep())
    found[rows.getColumn(0).getString()]
        .runs[rows.getColumn(1).getString()][rows.getColumn(2).getInt64()] =
        rows.getColumn(3).getInt64();
  return found;
}

// The values of `settings` below "section.", without its plugin and what is empty.
std::vector<std::pair<std::string, std::string>> values(const Settings& settings,
                                                        const std::string& section) {
  std::vector<std::pair<std::string, std::string>> out;
  for (const auto& [key, value] : settings) {
    const std::string name = key.starts_with(section + ".") ? key.substr(section.size() + 1) : "";
    const std::string text = to_text(value);
    if (!name.empty() && name != "plugin" && !text.empty() && text != "[]" && text != "\"\"")
      out.emplace_back(name, text);
  }
  return out;
}

std::string plugin(const Settings& settings, const std::string& section) {
  const auto found = settings.find(section + ".plugin");
  return found == settings.end() ? "" : to_text(found->second);
}

// What the samples were measured against, as `dkdm eval` takes it.
std::string reference_of(const Settings& settings) {
  if (const auto file = settings.find("reference.statistics"); file != settings.end())
    return to_text(file->second);
  const std::string dataset = plugin(settings, "dataset");
  std::string reference = dataset;
  for (const auto& [name, value] : values(settings, "dataset"))
    reference += (reference == dataset ? ":" : ",") + name + "=" + value;
  return reference;
}

// The weights of `protocol`, as the stage `key` prepared them here; empty where they are not those:
// another machine's evaluator may have the same key, and its weights stay behind when databases are
// merged.
fs::path kept_weights(const fs::path& root, const std::string& key, const std::string& protocol) {
  const std::string name = "weights.safetensors";
  const auto artifact = find_artifact(root, "evaluator", key);
  if (!artifact || !artifact->manifest) return {};
  for (const auto& file : artifact->manifest->files)
    if (file.name == name && protocol.find(file.sha256.substr(0, 8)) != std::string::npos)
      return root / artifact->path / name;
  return {};
}

// As `run`, which has the protocol, was evaluated.
std::vector<std::string> command_for(SQLite::Database& db, const fs::path& root, std::int64_t run,
                                     const std::string& protocol,
                                     const std::vector<std::int64_t>& runs) {
  SQLite::Statement row(
      db,
      "SELECT r.config, r.row, s.key FROM runs r LEFT JOIN stages s ON s.run = r.id "
      "AND s.name = 'evaluator' WHERE r.id = ?");
  row.bind(1, run);
  if (!row.executeStep()) return {};
  const auto settings = settings_of(row.getColumn(0).getString(), row.getColumn(1).getString());
  const auto reference = reference_of(settings), evaluator = plugin(settings, "evaluator");
  if (reference.empty() || evaluator.empty()) return {};
  std::vector<std::string> command{"eval"};
  for (const auto id : runs) command.push_back(std::to_string(id));
  command.insert(command.end(), {reference, "--evaluator", evaluator});
  const auto named = settings.find("evaluator.weights");
  const auto weights = named == settings.end() ? "none" : to_text(named->second);
  if (weights.empty() || weights == "train") {
    const auto file = kept_weights(root, row.getColumn(2).getString(), protocol);
    if (file.empty()) return {};
    command.insert(command.end(), {"--set", "weights=" + file.string()});
  } else {
    for (const auto& [name, value] : values(settings, "evaluator"))
      command.insert(command.end(), {"--set", name + "=" + value});
  }
  command.push_back("--record");
  return command;
}

EvaluatorSplit split_at(SQLite::Database& db, const fs::path& root, const std::string& experiment,
                        const Found& found, const std::string& protocol) {
  EvaluatorSplit split{experiment, protocol, {}, {}, {}, {}};
  const auto& with = found.runs.at(protocol);
  for (const auto& [run, by] : with) split.with.push_back(run);
  std::set<std::int64_t> without;
  for (const auto& [other, runs] : found.runs)
    for (const auto& [run, by] : runs)
      if (!with.contains(run)) {
        without.insert(run);
        if (split.others.empty() || split.others.back() != other) split.others.push_back(other);
      }
  split.without.assign(without.begin(), without.end());
  for (auto run = with.rbegin(); run != with.rend() && split.command.empty(); ++run)
    split.command = command_for(db, root, run->second, protocol, split.without);
  return split;
}

std::string count(std::size_t runs) {
  return std::to_string(runs) + (runs == 1 ? " run" : " runs");
}

}  // namespace

std::string EvaluatorSplit::text() const {
  std::string list;
  for (const auto& other : others) list += (list.empty() ? "" : ", ") + other;
  return experiment + ": values of " + count(with.size()) + " are of evaluator " + protocol +
         ", those of " + count(without.size()) + " of " + list + " alone, which do not compare";
}

std::vector<EvaluatorSplit> evaluator_splits(const fs::path& file, const fs::path& root,
                                             const std::string& experiment) {
  Database database(file, OpenMode::read);
  return database.read([&](SQLite::Database& db) {
    std::vector<EvaluatorSplit> splits;
    for (const auto& [name, found] : protocols(db, experiment)) {
      if (found.runs.size() < 2) continue;
      std::vector<std::string> by_use;
      for (const auto& [protocol, runs] : found.runs) by_use.push_back(protocol);
      const auto use = [&, &found = found](const std::string& protocol) {
        const auto& runs = found.runs.at(protocol);
        return std::pair(runs.size(), runs.rbegin()->first);
      };
      std::sort(by_use.begin(), by_use.end(),
                [&](const auto& a, const auto& b) { return use(a) > use(b); });
      std::vector<EvaluatorSplit> ways;
      for (const auto& protocol : by_use) ways.push_back(split_at(db, root, name, found, protocol));
      if (ways.front().without.empty()) continue;
      const auto possible = std::find_if(ways.begin(), ways.end(),
                                         [](const auto& way) { return !way.command.empty(); });
      splits.push_back(possible == ways.end() ? ways.front() : *possible);
    }
    return splits;
  });
}

}  // namespace dkdm::results
