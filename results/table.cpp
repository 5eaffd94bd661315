// Rendering of tables.
#include "results/table.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

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

// Narrows the widest columns of text until all fit into `most`; as they were when that cannot be.
std::vector<int> fitted(const Table& table, const std::vector<int>& widths, int most) {
  constexpr int kLeast = 20;
  auto narrow = widths;
  while (total_width(narrow) > most) {
    int widest = -1;
    for (int c = 0; c < static_cast<int>(narrow.size()); ++c) {
      if (table.columns[c].align == Align::right || narrow[c] <= kLeast) continue;
      if (widest < 0 || narrow[c] > narrow[widest]) widest = c;
    }
    if (widest < 0) return widths;
    --narrow[widest];
  }
  return narrow;
}

std::string render_text(const Table& table, bool colour, int columns) {
  const auto grid =
      layout(table, 1, [](const Cell& cell) { return terminal_text(cell.text.value_or("")); });
  const auto widths = columns > 0 ? fitted(table, grid.widths, columns) : grid.widths;
  std::string out =
      table.title.empty() ? "" : in_style(terminal_text(table.title), kBold, colour) + "\n";
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
        const auto& text = h < cells[c].size() ? cells[c][h] : std::string();
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
