// The table a person reads, and the choice of a format.
#include "results/report.hpp"

#include <algorithm>
#include <cmath>

#include "dkdm/error.hpp"
#include "results/report_data.hpp"

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

std::string render_plain(const std::vector<ReportTable>& tables, Format format,
                         const ReportOptions& options) {
  std::string out;
  for (const auto& report_table : tables) {
    auto table = display_table(report_table);
    table.title = caption_of(report_table);
    out += (out.empty() ? "" : "\n") + table.render(format, options.colour, options.columns);
    if (!report_table.notes.empty()) out += "\n";
    for (const auto& note : report_table.notes) {
      if (format == Format::markdown) {
        out += "- " + markdown_text(note) + "\n";
        continue;
      }
      const auto text = terminal_text(note);
      for (const auto& line : options.columns > 0 ? wrapped(text, options.columns)
                                                  : std::vector<std::string>{text}) {
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
    const bool any = std::any_of(table.lines.begin(), table.lines.end(), [&](const auto& line) {
      return line.published.count(name) > 0;
    });
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

std::string caption_of(const ReportTable& table) {
  const auto title = shortened(table.title, kTitleWidth);
  if (table.sample_count == 0) return title + ": not evaluated yet";
  auto text = title + ": " + table.protocol + ", " + std::to_string(table.sample_count) +
              " samples, " + table.weights + " weights";
  if (!table.reference.empty()) text += ", reference " + abbreviated(table.reference);
  return text;
}

Table display_table(const ReportTable& source) {
  const auto published = published_metrics(source);
  const bool compares = compares_with_paper(source);
  const bool several_seeds = std::any_of(source.lines.begin(), source.lines.end(),
                                         [](const auto& line) { return line.runs.size() > 1; });
  Table table;
  table.columns.push_back({"Method"});
  const auto add_column = [&](const std::string& title) {
    table.columns.push_back({title, Align::right});
  };
  for (const auto& name : source.metrics) add_column(metric_column(source, name));
  for (const auto& name : published) {
    add_column("paper " + metric_title(name) + (compares ? " (Δ)" : ""));
  }
  add_column("Parameters");
  add_column("Training (s)");
  if (several_seeds) add_column("Seeds");

  for (const auto& line : source.lines) {
    auto& row = table.rows.emplace_back();
    row.emplace_back(shortened(line.label, kLabelWidth));
    const auto estimate_of = [&](const std::string& name) {
      const auto found = line.metrics.find(name);
      return found == line.metrics.end() ? nullptr : &found->second;
    };
    const auto paper_of = [&](const std::string& name) {
      const auto found = line.published.find(name);
      return found == line.published.end() ? nullptr : &found->second;
    };
    for (const auto& name : source.metrics) {
      auto& cell = row.emplace_back("—");
      if (const auto* value = estimate_of(name)) {
        cell.text = estimate_text(*value, metric_decimals(name));
        if (value->count != static_cast<int>(line.runs.size())) {
          *cell.text += " (n = " + std::to_string(value->count) + ")";
        }
        cell.strong = value->best;
        cell.fault = !std::isfinite(value->mean);
      } else if (line.runs.empty() && &name == &source.metrics.front()) {
        cell.text = line.status;  // the reason is in the notes
        cell.fault = line.status != "not run" && line.status != "running";
      }
    }
    for (const auto& name : published) {
      const double* paper = paper_of(name);
      auto& cell = row.emplace_back(paper == nullptr ? "—" : fixed(*paper, metric_decimals(name)));
      const Estimate* ours = estimate_of(name);
      if (compares && paper != nullptr && ours != nullptr && std::isfinite(ours->mean)) {
        *cell.text += " (" + with_sign(ours->mean - *paper, metric_decimals(name)) + ")";
      }
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
  const auto depth = options.format == ReportFormat::html ? Depth::figures : Depth::table;
  const auto tables = gather(file, experiments, options.expected, depth);
  switch (options.format) {
    case ReportFormat::text: return render_plain(tables, Format::text, options);
    case ReportFormat::markdown: return render_plain(tables, Format::markdown, options);
    case ReportFormat::csv: return render_csv(tables);
    case ReportFormat::json: return render_json(tables);
    case ReportFormat::latex: return render_latex(tables);
    case ReportFormat::html: return render_html(file, tables, options.root);
  }
  return "";
}

}  // namespace dkdm::results
