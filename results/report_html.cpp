// The report as one self-contained page: no script, no other file, light and dark, narrow screens.
#include <set>

#include "results/html.hpp"
#include "results/report_data.hpp"

namespace dkdm::results {
namespace {

constexpr const char* kHead = R"html(<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
      content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>dkdm report</title>
<style>
:root { color-scheme: light dark; --ink: #1c1d20; --soft: #5c6068; --rule: #d5d8de; --page: #fff;
  --band: #f4f5f7;
  --c0: #2f6fbd; --c1: #c2571a; --c2: #2a8a4b; --c3: #9a3fa8; --c4: #b3261e; --c5: #00798c;
  --c6: #7a6a00; --c7: #6b6f78; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e9ec; --soft: #a4a9b3; --rule: #3d4149; --page: #16181b; --band: #1f2226;
    --c0: #7db2f2; --c1: #f0975c; --c2: #6fce90; --c3: #d48ee0; --c4: #f28b82; --c5: #5cc7d9;
    --c6: #d6c45a; --c7: #a9aeb8; }
}
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 68rem; background: var(--page);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; } h3 { font-size: 1rem; }
.wide { overflow-x: auto; }
.wide:focus-visible { outline: 2px solid var(--c0); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: .5rem; }
th, td { padding: .3rem .75rem; white-space: nowrap; text-align: left; overflow-wrap: normal; }
th { font-weight: 600; } tbody th { font-weight: 400; }
thead { border-block: 1px solid var(--rule); } tbody { border-bottom: 1px solid var(--rule); }
tbody tr:nth-child(even) { background: var(--band); }
.number { text-align: right; }
.notes { color: var(--soft); padding-left: 1.2rem; }
.grids { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(16rem, 100%), 1fr)); }
figure { margin: 0; } figure img { width: 100%; image-rendering: pixelated; }
figcaption { color: var(--soft); }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--soft); font-size: 12px; dominant-baseline: middle; }
.end { text-anchor: end; } .mid { text-anchor: middle; } .rule { stroke: var(--rule); }
polyline { fill: none; stroke-width: 1.75; }
.c0 { stroke: var(--c0); } .c1 { stroke: var(--c1); } .c2 { stroke: var(--c2); }
.c3 { stroke: var(--c3); } .c4 { stroke: var(--c4); } .c5 { stroke: var(--c5); }
.c6 { stroke: var(--c6); } .c7 { stroke: var(--c7); }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; list-style: none; padding: 0; }
.legend li { display: flex; align-items: center; gap: .5rem; } .legend svg { width: 24px; }
</style>
</head>
<body>
<main>
<h1>dkdm report</h1>
)html";

std::string html_table(const ReportTable& source) {
  const auto table = display_table(source);
  const auto caption = html_escaped(caption_of(source));
  // Scrolls by itself on a narrow screen, by keyboard too.
  std::string out = "<div class=\"wide\" role=\"region\" tabindex=\"0\" aria-label=\"" + caption +
                    "\">\n<table>\n<caption>" + caption + "</caption>\n<thead><tr>";
  const auto style = [&](std::size_t c) {
    return table.columns[c].align == Align::right ? " class=\"number\"" : "";
  };
  for (std::size_t c = 0; c < table.columns.size(); ++c) {
    out += std::string("<th scope=\"col\"") + style(c) + ">" +
           html_escaped(table.columns[c].title) + "</th>";
  }
  out += "</tr></thead>\n<tbody>\n";
  for (const auto& row : table.rows) {
    out += "<tr>";
    for (std::size_t c = 0; c < row.size(); ++c) {
      auto text = html_escaped(row[c].text.value_or(""));
      if (row[c].strong) text = "<strong>" + text + "</strong>";
      out += c == 0 ? "<th scope=\"row\">" + text + "</th>"
                    : std::string("<td") + style(c) + ">" + text + "</td>";
    }
    out += "</tr>\n";
  }
  out += "</tbody>\n</table>\n</div>\n";
  if (source.notes.empty()) return out;
  out += "<ul class=\"notes\">\n";
  for (const auto& note : source.notes) out += "<li>" + html_escaped(note) + "</li>\n";
  return out + "</ul>\n";
}

std::string html_grids(const ReportTable& source, std::set<std::string>& shown,
                       const std::map<std::string, std::filesystem::path>& grids) {
  std::string out;
  for (const auto& line : source.lines) {
    const auto name = source.experiment + "/" + line.row;
    auto found = grids.find(name);
    if (found == grids.end()) found = grids.find(line.row);
    if (found == grids.end() || !shown.insert(name).second) continue;
    std::string reason;
    const auto uri = png_data_uri(found->second, reason);
    const auto label = html_escaped(line.label);
    out += "<figure>";
    out += uri.empty() ? "<p>No picture: " + html_escaped(reason) + "</p>"
                       : "<img src=\"" + uri + "\" alt=\"Samples of " + label + "\">";
    out += "<figcaption>" + label + "</figcaption></figure>\n";
  }
  return out.empty() ? "" : "<h3>Samples</h3>\n<div class=\"grids\">\n" + out + "</div>\n";
}

std::string html_curves(const ReportTable& source) {
  std::vector<Curve> curves;
  for (const auto& line : source.lines) curves.push_back({line.label, line.curve});
  const auto chart = svg_chart("Training loss of " + source.title + " by step", "training step",
                               curves);
  return chart.empty() ? "" : "<h3>Training loss</h3>\n" + chart;
}

}  // namespace

std::string render_html(const std::vector<ReportTable>& tables,
                        const std::map<std::string, std::filesystem::path>& grids) {
  std::string out = kHead;
  std::set<std::string> shown;
  std::string experiment;
  for (const auto& table : tables) {
    if (table.experiment != experiment) {
      experiment = table.experiment;
      out += "<h2>" + html_escaped(table.title) + "</h2>\n<p>Experiment " +
             html_escaped(experiment) +
             (table.scale.empty() ? "" : ", " + html_escaped(table.scale) + " scale") + ".</p>\n";
    }
    out += html_table(table) + html_grids(table, shown, grids) + html_curves(table);
  }
  return out + "</main>\n</body>\n</html>\n";
}

}  // namespace dkdm::results
