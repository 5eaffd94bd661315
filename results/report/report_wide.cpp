// Several experiments in one table, side by side, as the paper prints its Table 2.
#include <algorithm>
#include <map>

#include "results/report/report_data.hpp"

namespace dkdm::results {
namespace {

// Where what sets the titles apart begins: after the last ", " or ": " that all have.
std::size_t common_beginning(const std::vector<TableGroup>& groups) {
  const std::string& first = groups.front().front()->title;
  std::size_t same = first.size();
  for (const auto& group : groups) {
    const std::string& title = group.front()->title;
    const auto end = std::mismatch(first.begin(), first.end(), title.begin(), title.end()).first;
    same = std::min(same, static_cast<std::size_t>(end - first.begin()));
  }
  while (same > 0 && !(same > 1 && first[same - 1] == ' ' &&
                       (first[same - 2] == ',' || first[same - 2] == ':')))
    --same;
  return same;
}

// One experiment's columns: its values that compare with the paper's, else those that it has first.
struct Part {
  std::string name;
  const ReportTable* table;
  std::vector<std::string> metrics;  // those that the paper publishes, else all
};

Part part_of(const TableGroup& group, std::size_t beginning) {
  const auto comparable = std::find_if(
      group.begin(), group.end(), [](const auto* table) { return compares_with_paper(*table); });
  const auto* table = comparable == group.end() ? group.front() : *comparable;
  auto metrics = published_metrics(*table);
  return {table->title.substr(beginning), table, metrics.empty() ? table->metrics : metrics};
}

// A line's own value, and in brackets the paper's.
Cell cell_of(const ReportLine* line, const std::string& metric, bool first) {
  if (line == nullptr) return "—";
  Cell cell("—");
  if (const auto* value = estimate_of(line, metric)) {
    cell = value_cell(*value, metric, line->runs.size());
  } else if (first && line->runs.empty()) {
    cell.text = line->status;  // the reason is in the notes
    cell.fault = line->status != "not run" && line->status != "running";
  }
  if (const auto paper = line->published.find(metric); paper != line->published.end())
    *cell.text += " (" + fixed(paper->second, metric_decimals(metric)) + ")";
  return cell;
}

// The notes of all, each once, after the names of those that it is about where it is not all.
std::vector<std::string> notes_of(const std::vector<TableGroup>& groups,
                                  const std::vector<Part>& parts) {
  std::vector<std::pair<std::string, std::vector<std::string>>> about;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    for (const auto& note : notes_of(groups[i])) {
      auto known = std::find_if(about.begin(), about.end(),
                                [&](const auto& entry) { return entry.first == note; });
      if (known == about.end()) known = about.insert(about.end(), {note, {}});
      known->second.push_back(parts[i].name);
    }
  }
  std::vector<std::string> notes;
  for (const auto& [note, names] : about) {
    std::string of;
    if (names.size() < parts.size())
      for (const auto& name : names) of += (of.empty() ? "" : ", ") + name;
    notes.push_back(of.empty() ? note : of + ": " + note);
  }
  return notes;
}

}  // namespace

Sheet wide_sheet(const std::vector<ReportTable>& tables) {
  const auto groups = side_by_side(tables);
  const auto beginning = groups.size() > 1 ? common_beginning(groups) : 0;
  std::vector<Part> parts;
  for (const auto& group : groups) parts.push_back(part_of(group, beginning));

  Sheet sheet;
  Table& table = sheet.table;
  table.columns = {{"Method"}};
  // Rows are the same by id; of several configurations of one the first stands beside the first.
  using Key = std::pair<std::string, int>;
  std::vector<Key> order;
  std::map<Key, std::vector<const ReportLine*>> lines;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const auto& [name, of, metrics] = parts[i];
    for (const auto& metric : metrics)
      table.columns.push_back({name + " " + metric_column(*of, metric), Align::right});
    std::map<std::string, int> met;
    for (const auto& line : of->lines) {
      const Key key{line.row, met[line.row]++};
      auto& side = lines[key];
      if (side.empty()) {
        side.resize(parts.size());
        order.push_back(key);
      }
      side[i] = &line;
    }
  }
  sheet.notes = notes_of(groups, parts);
  for (const auto& key : order) {
    const auto& side = lines.at(key);
    const auto* known =
        *std::find_if(side.begin(), side.end(), [](const auto* line) { return line != nullptr; });
    auto& row = table.rows.emplace_back();
    row.emplace_back(shortened(known->label, kLabelWidth));
    for (std::size_t i = 0; i < parts.size(); ++i)
      for (const auto& metric : parts[i].metrics)
        row.push_back(cell_of(side[i], metric, &metric == &parts[i].metrics.front()));
  }
  for (const auto& part : parts)
    table.title += (table.title.empty() ? "" : ". ") + caption_of({part.table});
  const bool published = std::any_of(parts.begin(), parts.end(), [](const Part& part) {
    return !published_metrics(*part.table).empty();
  });
  if (published) table.title += ". In brackets: the paper's";
  return sheet;
}

}  // namespace dkdm::results
