// The report's formats, but for the page (report_html.cpp).
#include "results/report.hpp"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "dkdm/error.hpp"
#include "results/report_data.hpp"

namespace dkdm::results {
namespace {

// "is" -> "IS"; names of our own stay as they are.
std::string metric_title(const std::string& name) {
  if (name == "is") return "IS";
  if (name == "fid") return "FID";
  if (name == "sfid") return "sFID";
  return name;
}

int decimals_of(const std::string& name) {
  return name == "precision" || name == "recall" ? 3 : 2;
}

std::string arrow(const ReportTable& table, const std::string& name) {
  const auto found = table.higher_is_better.find(name);
  return found != table.higher_is_better.end() && found->second ? " ↑" : " ↓";
}

// Metrics with a published value in this table, in the columns' order.
std::vector<std::string> published_metrics(const ReportTable& table) {
  std::vector<std::string> names;
  for (const auto& name : table.metrics) {
    const bool any = std::any_of(table.lines.begin(), table.lines.end(), [&](const auto& line) {
      return line.published.count(name) > 0;
    });
    if (any) names.push_back(name);
  }
  return names;
}

// 3a1f…: a fingerprint's beginning tells it from others.
std::string abbreviated(const std::string& reference) {
  return reference.size() <= 24 ? reference : reference.substr(0, 16) + "…";
}

std::string render_plain(const std::vector<ReportTable>& tables, Format format) {
  std::string out;
  for (const auto& report_table : tables) {
    auto table = display_table(report_table);
    table.title = caption_of(report_table);
    out += (out.empty() ? "" : "\n") + table.render(format);
    if (!report_table.notes.empty()) out += "\n";
    for (const auto& note : report_table.notes) {
      out += format == Format::markdown ? "- " + markdown_text(note) : terminal_text(note);
      out += "\n";
    }
  }
  return out;
}

std::string render_csv(const std::vector<ReportTable>& tables) {
  std::vector<std::string> metrics, published;
  const auto merge = [](std::vector<std::string>& all, const std::vector<std::string>& more) {
    for (const auto& name : more) {
      if (std::find(all.begin(), all.end(), name) == all.end()) all.push_back(name);
    }
  };
  for (const auto& table : tables) {
    merge(metrics, table.metrics);
    merge(published, published_metrics(table));
  }
  Table csv;
  for (const char* title : {"experiment", "row", "label", "status", "protocol", "reference",
                            "sample_count", "weights"}) {
    csv.columns.push_back({title});
  }
  for (const auto& name : metrics) {
    csv.columns.push_back({name});
    csv.columns.push_back({name + "_std"});
  }
  for (const auto& name : published) csv.columns.push_back({"published_" + name});
  for (const char* title : {"parameters", "train_seconds", "seeds", "reason"}) {
    csv.columns.push_back({title});
  }
  for (const auto& table : tables) {
    for (const auto& line : table.lines) {
      auto& row = csv.rows.emplace_back(std::vector<Cell>{
          table.experiment, line.row, line.label, line.status, table.protocol, table.reference,
          std::to_string(table.sample_count), table.weights});
      for (const auto& name : metrics) {
        const auto found = line.metrics.find(name);
        const bool has = found != line.metrics.end();
        row.push_back(has ? Cell(shortest(found->second.mean)) : Cell());
        row.push_back(has && found->second.std ? Cell(shortest(*found->second.std)) : Cell());
      }
      for (const auto& name : published) {
        const auto found = line.published.find(name);
        row.push_back(found != line.published.end() ? Cell(shortest(found->second)) : Cell());
      }
      row.push_back(std::to_string(line.parameters));
      row.push_back(line.train_seconds ? Cell(shortest(*line.train_seconds)) : Cell());
      row.push_back(std::to_string(line.runs.size()));
      row.push_back(line.reason);
    }
  }
  return csv.render(Format::csv);
}

std::string render_json(const std::vector<ReportTable>& tables) {
  using Json = nlohmann::ordered_json;
  auto out = Json::array();
  for (const auto& table : tables) {
    Json object = {{"experiment", table.experiment},     {"title", table.title},
                   {"scale", table.scale},               {"protocol", table.protocol},
                   {"reference", table.reference},       {"weights", table.weights},
                   {"sample_count", table.sample_count}, {"rows", Json::array()},
                   {"notes", table.notes}};
    for (const auto& line : table.lines) {
      Json row = {{"row", line.row},       {"label", line.label},   {"teacher", line.teacher},
                  {"status", line.status}, {"reason", line.reason}, {"runs", line.runs},
                  {"parameters", line.parameters}};
      row["train_seconds"] = line.train_seconds ? Json(*line.train_seconds) : Json();
      row["metrics"] = Json::object();
      for (const auto& [name, value] : line.metrics) {
        row["metrics"][name] = {{"mean", value.mean},  // not a number -> null
                                {"std", value.std ? Json(*value.std) : Json()},
                                {"seeds", value.count},
                                {"higher_is_better", table.higher_is_better.at(name)},
                                {"best", value.best}};
      }
      row["published"] = Json::object();
      for (const auto& [name, value] : line.published) row["published"][name] = value;
      object["rows"].push_back(std::move(row));
    }
    out.push_back(std::move(object));
  }
  return out.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string latex_escaped(const std::string& text) {
  static const std::vector<std::pair<std::string, std::string>> kSymbols = {
      {"\\", "\\textbackslash{}"}, {"↑", "$\\uparrow$"}, {"↓", "$\\downarrow$"}, {"±", "$\\pm$"},
      {"—", "---"}, {"…", "\\dots{}"}, {"ρ", "$\\rho$"}, {"~", "\\textasciitilde{}"},
      {"^", "\\textasciicircum{}"}, {"&", "\\&"}, {"%", "\\%"}, {"$", "\\$"}, {"#", "\\#"},
      {"_", "\\_"}, {"{", "\\{"}, {"}", "\\}"}, {"\n", " "}, {"\r", " "}};
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const auto symbol = std::find_if(kSymbols.begin(), kSymbols.end(), [&](const auto& pair) {
      return text.compare(i, pair.first.size(), pair.first) == 0;
    });
    if (symbol != kSymbols.end()) {
      out += symbol->second;
      i += symbol->first.size();
    } else {
      out += text[i++];
    }
  }
  return out;
}

std::string render_latex(const std::vector<ReportTable>& tables) {
  std::string out = "% needs \\usepackage{booktabs}\n";
  for (const auto& report_table : tables) {
    const auto table = display_table(report_table);
    std::string shape, header;
    for (const auto& column : table.columns) {
      shape += column.align == Align::left ? 'l' : 'r';
      header += (header.empty() ? "" : " & ") + latex_escaped(column.title);
    }
    out += "\\begin{table}\n\\centering\n\\caption{" + latex_escaped(caption_of(report_table)) +
           "}\n\\begin{tabular}{" + shape + "}\n\\toprule\n" + header + " \\\\\n\\midrule\n";
    for (const auto& row : table.rows) {
      std::string line;
      for (std::size_t c = 0; c < row.size(); ++c) {
        const auto text = latex_escaped(row[c].text.value_or(""));
        line += (c > 0 ? " & " : "") + (row[c].strong ? "\\textbf{" + text + "}" : text);
      }
      out += line + " \\\\\n";
    }
    out += "\\bottomrule\n\\end{tabular}\n";
    for (const auto& note : report_table.notes) {
      out += "\n\\smallskip\\footnotesize " + latex_escaped(note) + "\n";
    }
    out += "\\end{table}\n";
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

std::string caption_of(const ReportTable& table) {
  std::string text = table.title;
  if (table.sample_count == 0) return text + ": not evaluated yet";
  text += ": " + table.protocol + ", " + std::to_string(table.sample_count) + " samples, " +
          table.weights + " weights";
  if (!table.reference.empty()) text += ", reference " + abbreviated(table.reference);
  return text;
}

Table display_table(const ReportTable& source) {
  const auto published = published_metrics(source);
  const bool several_seeds = std::any_of(source.lines.begin(), source.lines.end(),
                                         [](const auto& line) { return line.runs.size() > 1; });
  Table table;
  table.columns.push_back({"Method"});
  const auto samples = source.sample_count > 0 ? "@" + std::to_string(source.sample_count) : "";
  for (const auto& name : source.metrics) {
    table.columns.push_back({metric_title(name) + samples + arrow(source, name), Align::right});
  }
  for (const auto& name : published) {
    table.columns.push_back({"paper " + metric_title(name), Align::right});
  }
  table.columns.push_back({"Parameters", Align::right});
  table.columns.push_back({"Training (s)", Align::right});
  if (several_seeds) table.columns.push_back({"Seeds", Align::right});

  for (const auto& line : source.lines) {
    auto& row = table.rows.emplace_back();
    row.emplace_back(line.label);
    for (const auto& name : source.metrics) {
      const auto found = line.metrics.find(name);
      auto& cell = row.emplace_back("—");
      if (found != line.metrics.end()) {
        const auto& value = found->second;
        const int digits = decimals_of(name);
        cell.text = std::isfinite(value.mean) ? fixed(value.mean, digits) : "not finite";
        if (value.std) *cell.text += " ± " + fixed(*value.std, digits);
        cell.strong = value.best;
      } else if (line.runs.empty() && &name == &source.metrics.front()) {
        cell.text = line.status;  // the reason is in the notes
      }
    }
    for (const auto& name : published) {
      const auto found = line.published.find(name);
      row.push_back(found == line.published.end() ? "—" : fixed(found->second, decimals_of(name)));
    }
    row.push_back(line.parameters > 0 ? count_text(static_cast<double>(line.parameters)) : "—");
    row.push_back(line.train_seconds ? fixed(*line.train_seconds, *line.train_seconds < 10 ? 1 : 0)
                                     : "—");
    if (several_seeds) row.push_back(std::to_string(line.runs.size()));
  }
  return table;
}

std::string report(const std::filesystem::path& file, const std::vector<std::string>& experiments,
                   const ReportOptions& options) {
  const auto tables =
      gather(file, experiments, options.expected, options.format == ReportFormat::html);
  switch (options.format) {
    case ReportFormat::text: return render_plain(tables, Format::text);
    case ReportFormat::markdown: return render_plain(tables, Format::markdown);
    case ReportFormat::csv: return render_csv(tables);
    case ReportFormat::json: return render_json(tables);
    case ReportFormat::latex: return render_latex(tables);
    case ReportFormat::html: return render_html(tables, options.grids);
  }
  return "";
}

}  // namespace dkdm::results
