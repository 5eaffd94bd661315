// The report as one self-contained page: its frame, style and script are the files of page/.
#include <algorithm>
#include <functional>
#include <map>

#include "page.hpp"
#include "results/query/runs.hpp"
#include "results/report/html.hpp"
#include "results/report/report_chart.hpp"
#include "results/store/artifacts.hpp"

namespace dkdm::results {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kRunsShown = 8;          // of a row, in full
constexpr std::size_t kSeedsShown = 4;         // with pictures
constexpr int kThumbnail = 512;                // pixels
constexpr const char* kGridFile = "grid.png";  // as the stages that draw samples name it

// Puts `values` in the place of each {{name}}, once: what they contain is not looked at again.
std::string filled(std::string_view form, const std::map<std::string, std::string_view>& values) {
  std::string out;
  for (std::size_t at = 0; at < form.size();) {
    const auto open = std::min(form.find("{{", at), form.size());
    out += form.substr(at, open - at);
    if (open == form.size()) break;
    const auto close = form.find("}}", open);
    out += values.at(std::string(form.substr(open + 2, close - open - 2)));
    at = close + 2;
  }
  return out;
}

std::string link(const std::string& target, const std::string& inner) {
  return "<a href=\"#" + target + "\">" + inner + "</a>";
}

std::string run_name(const ReportRun& run) {
  return "Run " + std::to_string(run.id) + ", seed " + std::to_string(run.seed);
}

// The tables of one experiment with all that belongs to them.
class Section {
 public:
  Section(const fs::path& file, const fs::path& root, std::size_t number,
          std::vector<const ReportTable*> tables, std::vector<Chart>& charts,
          MethodColours& colours)
      : file_(file), root_(root), number_(number), tables_(std::move(tables)), charts_(charts),
        colours_(colours) {
    for (const auto* table : tables_) {
      for (std::size_t i = 0; i < table->lines.size(); ++i) {
        const auto& line = table->lines[i];
        const auto colour = colours_.of(*table, i);
        if (row_index(line) == rows_.size()) rows_.push_back({&line, {}, colour});
        auto& runs = rows_[row_index(line)].runs;
        for (const auto& run : line.all_runs) {
          const auto same = [&](const ReportRun* other) { return other->id == run.id; };
          if (std::none_of(runs.begin(), runs.end(), same)) runs.push_back(&run);
        }
      }
    }
  }

  std::string id() const { return "experiment-" + std::to_string(number_); }
  const std::string& title() const { return tables_.front()->title; }

  std::string html() {
    const auto& head = *tables_.front();
    std::string out = "<section aria-labelledby=\"" + id() + "\">\n<h2 id=\"" + id() + "\">" +
                      html_isolated(head.title) + "</h2>\n<p class=\"soft\">Experiment " +
                      html_isolated(head.experiment);
    if (!head.scale.empty()) out += ", " + html_escaped(head.scale) + " scale";
    out += ". Click a value to see its runs.</p>\n";
    out += table_html();
    for (const auto* table : tables_) out += charts_html(*table);
    return out + samples_html() + runs_html() + "</section>\n";
  }

 private:
  struct Row {
    const ReportLine* line;
    std::vector<const ReportRun*> runs;
    std::size_t colour;
  };

  static std::string key_html(std::size_t colour) {
    return "<span class=\"key " + colour_class(colour) + "\"></span>";
  }

  static const ReportLine& any_of(const std::vector<const ReportLine*>& parts) {
    return **std::find_if(parts.begin(), parts.end(),
                          [](const auto* part) { return part != nullptr; });
  }

  std::size_t row_index(const ReportLine& line) const {
    const auto found = std::find_if(rows_.begin(), rows_.end(),
                                    [&](const Row& r) { return r.line->place == line.place; });
    return found - rows_.begin();
  }
  std::string row_id(const ReportLine& line) const {
    return "row-" + std::to_string(number_) + "-" + std::to_string(row_index(line) + 1);
  }

  std::string table_html() {
    std::vector<std::pair<std::size_t, std::string>> columns;  // table and metric, after the label
    for (std::size_t i = 0; i < tables_.size(); ++i) {
      for (const auto& metric : tables_[i]->metrics) columns.emplace_back(i, metric);
    }
    const auto lines = lines_of(tables_);
    std::string out = html_table(
        display_table(tables_), caption_of(tables_),
        [&](std::size_t r, std::size_t c, const std::string& inner) {
          if (c == 0) return key_html(rows_[row_index(any_of(lines[r]))].colour) + inner;
          if (c > columns.size()) return inner;
          const auto& [table, metric] = columns[c - 1];
          const auto* line = lines[r][table];
          if (line == nullptr) return inner;
          const bool missing = c == 1 && line->runs.empty();
          return missing || line->metrics.count(metric) > 0 ? link(row_id(*line), inner) : inner;
        });
    const auto notes = notes_of(tables_);
    if (!notes.empty()) {
      out += "<ul class=\"notes\">\n";
      for (const auto& note : notes) out += "<li>" + html_isolated(note) + "</li>\n";
      out += "</ul>\n";
    }
    return out;
  }

  std::string charts_html(const ReportTable& source) {
    std::string out;
    auto charts = charts_of(source, colours_);
    if (charts.empty()) return out;
    out += tables_.size() == 1 ? "<h3>Charts</h3>\n"
                               : "<h3>Charts, " + html_escaped(source.protocol) + "</h3>\n";
    for (auto& chart : charts) {
      if (chart.bars) {
        out += html_bars(chart);
        continue;
      }
      out += html_chart(chart, charts_.size());
      charts_.push_back(std::move(chart));
    }
    return out;
  }

  // The grids of all methods at one seed, side by side.
  std::string grids_html(std::int64_t seed) const {
    std::string out;
    for (const auto& row : rows_) {
      for (const auto* run : row.runs) {
        if (!run->counts || run->seed != seed || !record::stays_below(run->samples)) continue;
        const auto name = fs::path(run->samples) / kGridFile;
        std::string reason;
        const auto uri = png_data_uri(root_ / name, kThumbnail, reason);
        const auto label = html_isolated(shortened(row.line->label, kLabelWidth));
        const auto id = "grid-" + std::to_string(run->id);
        out += "<figure id=\"" + id + "\">";
        out += uri.empty() ? "<p class=\"soft\">No picture: " + html_escaped(name.string()) + " " +
                                 html_escaped(reason) + "</p>"
                           : "<img src=\"" + uri + "\" alt=\"Samples of " +
                                 html_escaped(shortened(row.line->label, kLabelWidth)) + ", seed " +
                                 std::to_string(seed) + "\">";
        out += "<figcaption>" + key_html(row.colour) + label + ", " +
               link("run-" + std::to_string(run->id), "run " + std::to_string(run->id)) +
               "</figcaption></figure>\n";
      }
    }
    return out.empty() ? "" : "<div class=\"grids\">\n" + out + "</div>\n";
  }

  std::string samples_html() const {
    if (root_.empty()) return "";
    std::vector<std::int64_t> seeds;
    for (const auto& row : rows_) {
      for (const auto* run : row.runs) {
        if (run->counts && std::find(seeds.begin(), seeds.end(), run->seed) == seeds.end()) {
          seeds.push_back(run->seed);
        }
      }
    }
    std::sort(seeds.begin(), seeds.end());
    if (seeds.size() > kSeedsShown) seeds.resize(kSeedsShown);
    std::string out;
    for (const auto seed : seeds) {
      const auto grids = grids_html(seed);
      if (grids.empty()) continue;
      out += out.empty() ? grids
                         : "<details><summary>Samples of seed " + std::to_string(seed) +
                               "</summary>\n" + grids + "</details>\n";
    }
    if (out.empty()) return "";
    return "<h3>Samples</h3>\n<p class=\"soft\">Images at the same position start from the same "
           "noise.</p>\n" +
           out;
  }

  std::string runs_html() {
    std::string out = "<h3>Runs</h3>\n";
    for (const auto& row : rows_) {
      out += "<h4 id=\"" + row_id(*row.line) + "\">" + key_html(row.colour) +
             html_isolated(shortened(row.line->label, kLabelWidth)) + "</h4>\n";
      if (!row.line->reason.empty()) {
        const auto reason = shortened(row.line->reason, kReasonWidth);
        out += "<p class=\"fault\">" + html_isolated(reason) + "</p>\n";
      }
      const auto shown = std::min(row.runs.size(), kRunsShown);
      for (std::size_t i = 0; i < shown; ++i) out += run_html(*row.runs[i], row.colour);
      if (row.runs.size() > kRunsShown) {
        out += "<p>And " + std::to_string(row.runs.size() - kRunsShown) + " more:";
        for (auto i = kRunsShown; i < row.runs.size(); ++i) {
          out += (i == kRunsShown ? " " : ", ") + std::to_string(row.runs[i]->id);
        }
        out += ". <code>dkdm runs show ID</code> prints one.</p>\n";
      }
    }
    return out;
  }

  std::string run_html(const ReportRun& run, std::size_t colour) {
    const auto detail = run_detail(file_, run.id);
    std::string out = "<details class=\"run\" id=\"run-" + std::to_string(run.id) + "\"><summary>" +
                      run_name(run) + ": ";
    out += run.status == "done" ? "done"
                                : "<span class=\"fault\">" + html_escaped(run.status) + "</span>";
    out += run.counts ? "" : ", not in the table";
    out += "</summary>\n";
    if (!run.reason.empty()) {
      out += "<pre class=\"fault\" tabindex=\"0\">" + html_escaped(run.reason) + "</pre>\n";
    }
    if (!root_.empty() && run.counts && !run.samples.empty()) {
      out += "<p>" + link("grid-" + std::to_string(run.id), "Its samples") + "</p>\n";
    }
    const auto of_run = "run " + std::to_string(run.id);
    if (run.loss.size() > 1) {
      Chart chart{"", "Training loss of " + of_run, "training step", "loss", false, {}};
      auto& points = chart.series.emplace_back(ChartSeries{"loss", {}, false, colour}).points;
      for (const auto& [step, value] : run.loss) points.push_back({step, value, {}, 1});
      out += "<figure><figcaption>" + html_escaped(chart.title) +
             "</figcaption>\n<div class=\"wide\" role=\"region\" tabindex=\"0\" aria-label=\"" +
             html_escaped(chart.title) + "\">" + svg_chart(chart) + "</div></figure>\n";
    }
    for (const auto& table : detail.tables) {
      const auto caption = table.title == "Run"             ? "Record of " + of_run
                           : table.title == "Determined by" ? "What determines " + of_run
                                                            : table.title + " of " + of_run;
      if (!table.rows.empty()) out += html_table(table, caption);
    }
    out += "<p>Commands that repeat it:</p>\n<pre tabindex=\"0\">" + html_escaped(detail.repeat) +
           "</pre>\n";
    return out + configuration_html(run, detail.config) + "</details>\n";
  }

  // Equal configurations are shown once.
  std::string configuration_html(const ReportRun& run, const std::string& config) {
    const auto [first, fresh] = configurations_.emplace(config, run.id);
    if (!fresh) {
      const auto other = std::to_string(first->second);
      return "<p>Its configuration is that of " + link("run-" + other, "run " + other) + ".</p>\n";
    }
    return "<details><summary>Configuration of run " + std::to_string(run.id) +
           "</summary>\n<pre tabindex=\"0\">" + html_escaped(config) + "</pre></details>\n";
  }

  const fs::path& file_;
  const fs::path& root_;
  std::size_t number_;
  std::vector<const ReportTable*> tables_;
  std::vector<Chart>& charts_;
  MethodColours& colours_;
  std::vector<Row> rows_;
  std::map<std::string, std::int64_t> configurations_;
};

}  // namespace

std::string render_html(const fs::path& file, const std::vector<ReportTable>& tables,
                        const fs::path& root) {
  std::vector<std::vector<const ReportTable*>> experiments;
  for (const auto& table : tables) {
    if (experiments.empty() || experiments.back().front()->experiment != table.experiment) {
      experiments.emplace_back();
    }
    experiments.back().push_back(&table);
  }
  std::vector<Chart> charts;
  MethodColours colours;
  std::string body, contents;
  for (std::size_t i = 0; i < experiments.size(); ++i) {
    Section section(file, root, i + 1, experiments[i], charts, colours);
    body += section.html();
    contents += "<li>" +
                link(section.id(), html_isolated(shortened(section.title(), kLabelWidth))) +
                "</li>\n";
  }
  if (experiments.size() < 2) contents.clear();
  else
    contents = "<nav aria-label=\"Tables\"><ul class=\"contents\">\n" + contents + "</ul></nav>\n";
  const auto title = experiments.size() == 1
                         ? html_escaped(shortened(tables.front().title, kLabelWidth)) + ": dkdm"
                         : "Results: dkdm";
  const auto style_hash = csp_hash(kPageStyle), library_hash = csp_hash(kChartLibrary),
             script_hash = csp_hash(kPageScript), data = chart_json(charts);
  return filled(kPageFrame, {{"title", title},
                             {"style", kPageStyle},
                             {"style_hash", style_hash},
                             {"library", kChartLibrary},
                             {"library_hash", library_hash},
                             {"script", kPageScript},
                             {"script_hash", script_hash},
                             {"contents", contents},
                             {"body", body},
                             {"charts", data}});
}

}  // namespace dkdm::results
