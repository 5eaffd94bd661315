// Rendering of tables.
#include "results/text/table.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string_view>

#include "dkdm/error.hpp"

namespace dkdm::results {
namespace {

std::string csv_escaped(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + '"';
}

// `shown` (text with or without escape sequences) with spaces up to `width` columns.
std::string padded(const std::string& text, int width, Align align, const std::string& shown) {
  const std::string space(std::max(0, width - display_width(text)), ' ');
  return align == Align::left ? shown + space : space + shown;
}

// Title and cells of each line made ready by `convert`, and each column's width.
struct Grid {
  std::vector<std::vector<std::string>> lines;
  std::vector<int> widths;
};

template <class Convert>
Grid layout(const Table& table, int least, Convert&& convert) {
  Grid grid;
  auto& header = grid.lines.emplace_back();
  for (const auto& column : table.columns) header.push_back(convert(Cell(column.title)));
  for (const auto& row : table.rows) {
    auto& line = grid.lines.emplace_back();
    for (const auto& cell : row) line.push_back(convert(cell));
  }
  grid.widths.assign(table.columns.size(), least);
  for (const auto& line : grid.lines) {
    for (std::size_t c = 0; c < line.size(); ++c) {
      grid.widths[c] = std::max(grid.widths[c], display_width(line[c]));
    }
  }
  return grid;
}

constexpr const char *kBold = "\x1b[1m", *kRed = "\x1b[31m", *kPlain = "\x1b[0m";

std::string in_style(const std::string& text, const char* style, bool colour) {
  return colour && style != nullptr && !text.empty() ? style + text + kPlain : text;
}

int total_width(const std::vector<int>& widths) {
  return std::accumulate(widths.begin(), widths.end(), 2 * (static_cast<int>(widths.size()) - 1));
}

bool is_number(std::string_view word) {
  return word.find_first_of("0123456789") != word.npos &&
         word.find_first_not_of("0123456789.,:+-eE%") == word.npos;
}

// Columns of the longest number among the words of `text`.
int longest_number(const std::string& text) {
  int longest = 0;
  for (std::size_t start = 0; start < text.size();) {
    const auto end = std::min(text.find(' ', start), text.size());
    const std::string_view word(text.data() + start, end - start);
    if (is_number(word)) longest = std::max(longest, display_width(word));
    start = end + 1;
  }
  return longest;
}

// Columns of the longest part of a title, where it may be broken: at spaces and after "_".
int longest_part(const std::string& title) {
  int longest = 0;
  for (std::size_t start = 0; start < title.size();) {
    const auto end = title.find_first_of(" _", start);
    const auto stop = end == std::string::npos ? title.size() : end + (title[end] == '_' ? 1 : 0);
    longest = std::max(longest, display_width(std::string_view(title).substr(start, stop - start)));
    start = end == std::string::npos ? title.size() : end + 1;
  }
  return longest;
}

// How narrow each column may get: text wraps and keeps its numbers whole, a right-aligned column
// (numbers, values with their spread) wraps in its title alone.
std::vector<int> narrowest(const Table& table, const Grid& grid) {
  constexpr int kText = 16;  // a label is still read
  std::vector<int> least;
  for (std::size_t c = 0; c < grid.widths.size(); ++c) {
    const bool numbers = table.columns[c].align == Align::right;
    int width = 1;
    for (std::size_t l = 0; l < grid.lines.size(); ++l) {
      const auto& text = grid.lines[l][c];
      if (l == 0) width = std::max(width, longest_part(text));
      else if (numbers) width = std::max(width, display_width(text));
      else width = std::max(width, longest_number(text));
    }
    least.push_back(numbers ? width : std::min(grid.widths[c], std::max(width, kText)));
  }
  return least;
}

// The widths of as many columns as fit into `most` columns of a terminal, from the left. At least
// the first is shown, as narrow as it must be.
std::vector<int> fitted(const Table& table, const Grid& grid, int most) {
  auto least = narrowest(table, grid);
  while (least.size() > 1 && total_width(least) > most) least.pop_back();
  if (least.size() == 1) least[0] = std::max(1, std::min(least[0], most));
  std::vector<int> widths(grid.widths.begin(), grid.widths.begin() + least.size());
  while (total_width(widths) > most) {
    // Texts give way before the titles of numbers, which are short already.
    int widest = -1;
    for (const auto align : {Align::left, Align::right}) {
      for (std::size_t c = 0; c < widths.size(); ++c) {
        if (table.columns[c].align != align || widths[c] <= least[c]) continue;
        if (widest < 0 || widths[c] > widths[widest]) widest = static_cast<int>(c);
      }
      if (widest >= 0) break;
    }
    if (widest < 0) break;
    --widths[widest];
  }
  return widths;
}

std::string without_columns(const Table& table, std::size_t shown, int columns) {
  std::string names;
  for (std::size_t c = shown; c < table.columns.size(); ++c) {
    names += (names.empty() ? "" : ", ") + terminal_text(table.columns[c].title);
  }
  std::string out;
  for (const auto& line :
       wrapped("No room for: " + names +
                   " (a wider terminal or --format csv, markdown or json has all)",
               columns)) {
    out += line + "\n";
  }
  return out;
}

std::string render_text(const Table& table, bool colour, int columns) {
  const auto grid =
      layout(table, 1, [](const Cell& cell) { return terminal_text(cell.text.value_or("")); });
  const auto widths = columns > 0 ? fitted(table, grid, columns) : grid.widths;
  std::string out;
  const auto title = terminal_text(table.title);
  for (const auto& line : columns > 0 ? wrapped(title, columns) : std::vector<std::string>{title}) {
    if (!title.empty()) out += in_style(line, kBold, colour) + "\n";
  }
  for (std::size_t l = 0; l < grid.lines.size(); ++l) {
    std::vector<std::vector<std::string>> cells;  // each as the lines that it takes
    std::size_t height = 1;
    for (std::size_t c = 0; c < widths.size(); ++c) {
      cells.push_back(wrapped(grid.lines[l][c], widths[c]));
      height = std::max(height, cells.back().size());
    }
    for (std::size_t h = 0; h < height; ++h) {
      std::string line;
      for (std::size_t c = 0; c < widths.size(); ++c) {
        const Cell* cell = l > 0 ? &table.rows[l - 1][c] : nullptr;
        const char* style = nullptr;
        if (cell != nullptr && (cell->fault || cell->strong)) style = cell->fault ? kRed : kBold;
        if (c > 0) line += "  ";
        // A title stands right above its column's rule.
        const auto above = l == 0 ? height - cells[c].size() : 0;
        const auto& text =
            h >= above && h - above < cells[c].size() ? cells[c][h - above] : std::string();
        line += padded(text, widths[c], table.columns[c].align, in_style(text, style, colour));
      }
      line.erase(line.find_last_not_of(' ') + 1);
      out += line + "\n";
    }
    if (l == 0) {
      for (int i = 0; i < total_width(widths); ++i) out += "─";
      out += "\n";
    }
  }
  if (widths.size() < table.columns.size()) out += without_columns(table, widths.size(), columns);
  return out;
}

std::string render_markdown(const Table& table) {
  const auto grid = layout(table, 3, [](const Cell& cell) {
    const auto text = markdown_text(cell.text.value_or(""));
    return cell.strong && !text.empty() ? "**" + text + "**" : text;
  });
  std::string out = table.title.empty() ? "" : "### " + markdown_text(table.title) + "\n\n";
  for (std::size_t l = 0; l < grid.lines.size(); ++l) {
    std::string line = "|", rule = "|";
    for (std::size_t c = 0; c < grid.widths.size(); ++c) {
      const bool right = table.columns[c].align == Align::right;
      const auto& text = grid.lines[l][c];
      line += " " + padded(text, grid.widths[c], table.columns[c].align, text) + " |";
      rule += " " + std::string(grid.widths[c] - (right ? 1 : 0), '-') + (right ? ": |" : " |");
    }
    out += line + "\n" + (l == 0 ? rule + "\n" : "");
  }
  return out;
}

const std::optional<std::string>& machine_text(const Cell& cell) {
  return cell.raw ? cell.raw : cell.text;
}

std::string render_csv(const Table& table) {
  std::string out;
  const auto add = [&](std::size_t c, const std::string& text) {
    out += (c > 0 ? "," : "") + csv_escaped(text);
  };
  for (std::size_t c = 0; c < table.columns.size(); ++c) add(c, table.columns[c].title);
  out += "\r\n";
  for (const auto& row : table.rows) {
    for (std::size_t c = 0; c < row.size(); ++c) add(c, machine_text(row[c]).value_or(""));
    out += "\r\n";
  }
  return out;
}

std::string render_json(const Table& table) {
  auto rows = nlohmann::ordered_json::array();
  for (const auto& row : table.rows) {
    auto object = nlohmann::ordered_json::object();
    for (std::size_t c = 0; c < row.size(); ++c) {
      auto& value = object[table.columns[c].title];
      const auto& text = machine_text(row[c]);
      if (!text) continue;  // null
      value = *text;
      if (!table.columns[c].number) continue;
      auto number = nlohmann::ordered_json::parse(*text, nullptr, false);
      if (number.is_number()) value = std::move(number);
    }
    rows.push_back(std::move(object));
  }
  return rows.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace

Format parse_format(const std::string& name) {
  if (name == "text") return Format::text;
  if (name == "markdown" || name == "md") return Format::markdown;
  if (name == "csv") return Format::csv;
  if (name == "json") return Format::json;
  throw ConfigError("--format", "'" + name + "' is not one of text, markdown, csv, json");
}

std::string Table::render(Format format, bool colour, int columns) const {
  switch (format) {
    case Format::text: return render_text(*this, colour, columns);
    case Format::markdown: return render_markdown(*this);
    case Format::csv: return render_csv(*this);
    case Format::json: return render_json(*this);
  }
  return "";
}

}  // namespace dkdm::results
