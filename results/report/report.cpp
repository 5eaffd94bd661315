// The table a person reads, and the choice of a format.
#include "results/report/report.hpp"

#include <algorithm>
#include <cmath>
#include <map>

#include "dkdm/error.hpp"
#include "results/report/report_data.hpp"

namespace dkdm::results {
namespace {

// 3a1f…: a fingerprint's beginning tells it from others.
std::string abbreviated(const std::string& reference) {
  return reference.size() <= 24 ? reference : reference.substr(0, 16) + "…";
}

std::string with_sign(double value, int decimals) {
  const auto text = fixed(value, decimals);
  return value < 0 ? "−" + text.substr(1) : "+" + text;
}

constexpr int kTitleWidth = 120;

std::string render_plain(const std::vector<Sheet>& sheets, Format format,
                         const ReportOptions& options) {
  std::string out;
  for (const auto& [table, notes] : sheets) {
    out += (out.empty() ? "" : "\n") + table.render(format, options.colour, options.columns);
    if (!notes.empty()) out += "\n";
    for (const auto& note : notes) {
      if (format == Format::markdown) {
        out += "- " + markdown_text(note) + "\n";
        continue;
      }
      const auto text = terminal_text(note);
      for (const auto& line :
           options.columns > 0 ? wrapped(text, options.columns) : std::vector<std::string>{text}) {
        out += line + "\n";
      }
    }
  }
  return out;
}

}  // namespace

ReportFormat parse_report_format(const std::string& name) {
  if (name == "latex" || name == "tex") return ReportFormat::latex;
  if (name == "html") return ReportFormat::html;
  if (name == "text") return ReportFormat::text;
  if (name == "markdown" || name == "md") return ReportFormat::markdown;
  if (name == "csv") return ReportFormat::csv;
  if (name == "json") return ReportFormat::json;
  throw ConfigError("--format",
                    "'" + name + "' is not one of text, markdown, csv, json, latex, html");
}

std::vector<std::string> published_metrics(const ReportTable& table) {
  std::vector<std::string> names;
  for (const auto& name : table.metrics) {
    const bool any = std::any_of(table.lines.begin(), table.lines.end(),
                                 [&](const auto& line) { return line.published.count(name) > 0; });
    if (any) names.push_back(name);
  }
  return names;
}

bool compares_with_paper(const ReportTable& table) {
  return table.scale == "paper" && table.protocol.rfind("adm", 0) == 0 &&
         table.sample_count == 50'000;
}

std::string leading_metric(const ReportTable& table) {
  const auto fid = std::find(table.metrics.begin(), table.metrics.end(), "fid");
  return fid == table.metrics.end() ? table.metrics.front() : *fid;
}

std::string metric_title(const std::string& name) {
  if (name == "is") return "IS";
  if (name == "fid") return "FID";
  if (name == "sfid") return "sFID";
  return name;
}

std::string metric_column(const ReportTable& table, const std::string& name) {
  const auto found = table.higher_is_better.find(name);
  const bool higher = found != table.higher_is_better.end() && found->second;
  const auto samples = table.sample_count > 0 ? "@" + std::to_string(table.sample_count) : "";
  return metric_title(name) + samples + (higher ? " ↑" : " ↓");
}

int metric_decimals(const std::string& name) {
  return name == "precision" || name == "recall" ? 3 : 2;
}

std::string estimate_text(const Estimate& value, int decimals) {
  if (!std::isfinite(value.mean)) return "not finite";
  const auto mean = fixed(value.mean, decimals);
  return value.std ? mean + " ± " + fixed(*value.std, decimals) : mean;
}

std::vector<TableGroup> side_by_side(const std::vector<ReportTable>& tables) {
  std::vector<TableGroup> groups;
  for (const auto& table : tables) {
    if (groups.empty() || groups.back().front()->experiment != table.experiment)
      groups.emplace_back();
    groups.back().push_back(&table);
  }
  return groups;
}

std::vector<std::vector<const ReportLine*>> lines_of(const TableGroup& group) {
  std::map<std::size_t, std::vector<const ReportLine*>> places;
  for (std::size_t i = 0; i < group.size(); ++i) {
    for (const auto& line : group[i]->lines) {
      auto& lines = places[line.place];
      lines.resize(group.size());
      lines[i] = &line;
    }
  }
  std::vector<std::vector<const ReportLine*>> out;
  for (auto& [place, lines] : places) out.push_back(std::move(lines));
  return out;
}

std::vector<std::string> notes_of(const TableGroup& group) {
  std::vector<std::string> notes;
  for (const auto* table : group) {
    for (const auto& note : table->notes) {
      if (std::find(notes.begin(), notes.end(), note) == notes.end()) notes.push_back(note);
    }
  }
  return notes;
}

namespace {

// "[A] " before what belongs to the first of several ways of evaluating.
std::string mark(const TableGroup& group, std::size_t index) {
  if (group.size() == 1) return "";
  const auto letter =
      index < 26 ? std::string(1, static_cast<char>('A' + index)) : std::to_string(index + 1);
  return "[" + letter + "] ";
}

// Of every line the first table that has it: for what does not depend on the evaluator.
const ReportLine& any_of_line(const std::vector<const ReportLine*>& lines) {
  return **std::find_if(lines.begin(), lines.end(),
                        [](const auto* line) { return line != nullptr; });
}

}  // namespace

Cell value_cell(const Estimate& value, const std::string& metric, std::size_t runs) {
  Cell cell(estimate_text(value, metric_decimals(metric)));
  if (value.count != static_cast<int>(runs)) {
    *cell.text += " (n = " + std::to_string(value.count) + ")";
  }
  cell.strong = value.best;
  cell.fault = !std::isfinite(value.mean);
  return cell;
}

const Estimate* estimate_of(const ReportLine* line, const std::string& metric) {
  if (line == nullptr) return nullptr;
  const auto found = line->metrics.find(metric);
  return found == line->metrics.end() ? nullptr : &found->second;
}

std::string caption_of(const TableGroup& group) {
  // What training takes depends on no evaluator.
  if (group.front()->shape == kCostShape) return shortened(group.front()->title, kTitleWidth);
  auto text = shortened(group.front()->title, kTitleWidth) + ": ";
  if (group.front()->sample_count == 0) return text + "not evaluated yet";
  for (std::size_t i = 0; i < group.size(); ++i) {
    const auto& table = *group[i];
    text += (i > 0 ? "; " : "") + mark(group, i) + table.protocol + ", " +
            std::to_string(table.sample_count) + " samples, " + table.weights + " weights";
    if (!table.reference.empty()) text += ", reference " + abbreviated(table.reference);
  }
  return text;
}

Table display_table(const TableGroup& group) {
  if (group.front()->shape == kCostShape) return cost_table(group);
  const auto lines = lines_of(group);
  std::vector<std::string> published;  // of every table: the paper's values are the row's
  for (const auto* table : group) {
    for (const auto& name : published_metrics(*table)) {
      if (std::find(published.begin(), published.end(), name) == published.end()) {
        published.push_back(name);
      }
    }
  }
  const auto comparable = std::find_if(
      group.begin(), group.end(), [](const auto* table) { return compares_with_paper(*table); });
  const bool compares = comparable != group.end();
  const auto seeds_of = [](const std::vector<const ReportLine*>& line) {
    std::size_t seeds = 0;
    for (const auto* part : line) {
      if (part != nullptr) seeds = std::max(seeds, part->runs.size());
    }
    return seeds;
  };
  const bool several_seeds =
      std::any_of(lines.begin(), lines.end(), [&](const auto& line) { return seeds_of(line) > 1; });
  Table table;
  table.columns.push_back({"Method"});
  const auto add_column = [&](const std::string& title) {
    table.columns.push_back({title, Align::right});
  };
  for (std::size_t i = 0; i < group.size(); ++i) {
    for (const auto& name : group[i]->metrics) {
      add_column(mark(group, i) + metric_column(*group[i], name));
    }
  }
  // What the rule that chose a step passed over.
  const auto last_of = [&](std::size_t i) {
    const auto& table = *group[i];
    const bool any = std::any_of(table.lines.begin(), table.lines.end(),
                                 [](const auto& line) { return !line.selections.empty(); });
    return any ? leading_metric(table) : "";
  };
  for (std::size_t i = 0; i < group.size(); ++i)
    if (const auto name = last_of(i); !name.empty())
      add_column(mark(group, i) + metric_column(*group[i], name) + " last");
  for (const auto& name : published) {
    add_column("paper " + metric_title(name) + (compares ? " (Δ)" : ""));
  }
  add_column("Parameters");
  add_column("Training (s)");
  if (several_seeds) add_column("Seeds");

  for (const auto& parts : lines) {
    auto& row = table.rows.emplace_back();
    const auto& line = any_of_line(parts);
    row.emplace_back(shortened(line.label, kLabelWidth));
    for (std::size_t i = 0; i < group.size(); ++i) {
      for (const auto& name : group[i]->metrics) {
        auto& cell = row.emplace_back("—");
        if (const auto* value = estimate_of(parts[i], name)) {
          cell = value_cell(*value, name, parts[i]->runs.size());
        } else if (seeds_of(parts) == 0 && row.size() == 2) {
          cell.text = line.status;  // the reason is in the notes
          cell.fault = line.status != "not run" && line.status != "running";
        }
      }
    }
    for (std::size_t i = 0; i < group.size(); ++i) {
      const auto name = last_of(i);
      if (name.empty()) continue;
      auto& cell = row.emplace_back("—");
      if (parts[i] == nullptr) continue;
      if (const auto found = parts[i]->last.find(name); found != parts[i]->last.end())
        cell = value_cell(found->second, name, parts[i]->runs.size());
    }
    for (const auto& name : published) {
      const auto paper = line.published.find(name);
      const bool stated = paper != line.published.end();
      auto& cell = row.emplace_back(stated ? fixed(paper->second, metric_decimals(name)) : "—");
      if (!compares || !stated) continue;
      const auto* ours =
          estimate_of(parts[static_cast<std::size_t>(comparable - group.begin())], name);
      if (ours != nullptr && std::isfinite(ours->mean)) {
        *cell.text += " (" + with_sign(ours->mean - paper->second, metric_decimals(name)) + ")";
      }
    }
    row.push_back(line.parameters > 0 ? count_text(static_cast<double>(line.parameters)) : "—");
    row.push_back(line.train_seconds ? fixed(*line.train_seconds, *line.train_seconds < 10 ? 1 : 0)
                                     : "—");
    if (several_seeds) row.push_back(std::to_string(seeds_of(parts)));
  }
  return table;
}

std::vector<Sheet> sheets(const std::vector<ReportTable>& tables) {
  std::vector<Sheet> out;
  for (const auto& group : side_by_side(tables)) {
    out.push_back({display_table(group), notes_of(group)});
    out.back().table.title = caption_of(group);
  }
  return out;
}

std::string report(const std::filesystem::path& file, const std::vector<std::string>& experiments,
                   const ReportOptions& options) {
  const auto format = options.format;
  if (options.wide && format != ReportFormat::text && format != ReportFormat::markdown &&
      format != ReportFormat::latex)
    throw ConfigError("--wide",
                      "a table to read, in text, markdown or latex; csv and json have all "
                      "experiments in one table anyway, and the page one after the other");
  const auto depth = format == ReportFormat::html ? Depth::figures : Depth::table;
  const auto tables = gather(file, experiments, options.choice, depth);
  const auto shown = options.wide ? std::vector{wide_sheet(tables)} : sheets(tables);
  switch (format) {
    case ReportFormat::text: return render_plain(shown, Format::text, options);
    case ReportFormat::markdown: return render_plain(shown, Format::markdown, options);
    case ReportFormat::csv: return render_csv(tables);
    case ReportFormat::json: return render_json(tables);
    case ReportFormat::latex: return render_latex(shown);
    case ReportFormat::html: return render_html(file, tables, options.root);
  }
  return "";
}

}  // namespace dkdm::results
