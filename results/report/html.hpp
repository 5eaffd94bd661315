// Pieces of a self-contained page. Internal to results/.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "results/report/report_chart.hpp"
#include "results/text/table.hpp"

namespace dkdm::results {

// Text that may stand anywhere in a page, in element or attribute: valid UTF-8, no markup, control
// characters as U+FFFD but for line breaks and tabs.
std::string html_escaped(std::string_view text);
// The same as an element that keeps its direction of writing from what stands around.
std::string html_isolated(std::string_view text);

// Wraps or replaces the escaped content of a body cell: (row, column, content) -> content.
using CellWrap = std::function<std::string(std::size_t, std::size_t, const std::string&)>;

// A table with a caption, in a region that scrolls by itself on a narrow screen, by keyboard too.
// Rows are headed by their first cell.
std::string html_table(const Table& table, const std::string& caption, const CellWrap& wrap = {});

// 'sha256-…' of an inline script or style, as a Content-Security-Policy names it.
std::string csp_hash(std::string_view content);

// A PNG file as a data URI, averaged down to a thumbnail when it is wider or higher than `most`
// pixels; "" with `reason` ("cannot be read: …", "is not a PNG image: …") when there is none.
std::string png_data_uri(const std::filesystem::path& file, int most, std::string& reason);

// The class of an element that shows a method's colour (report_chart.hpp).
std::string colour_class(std::size_t colour);

// A figure of bars, which is a table too: method, bar, value. It needs no script.
std::string html_bars(const Chart& chart);

// A figure: a drawing that needs no script, and its values as a table. `number` is its place among
// the page's charts, by which the script finds its data. Not for bars.
std::string html_chart(const Chart& chart, std::size_t number);
// What the script reads: all charts in the order of their numbers, safe inside a script element.
std::string chart_json(const std::vector<Chart>& charts);
// A drawing alone, without a legend: for one series.
std::string svg_chart(const Chart& chart);

}  // namespace dkdm::results
