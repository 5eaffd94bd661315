// A table of text and its renderings. Every listing of the program is one of these.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "results/text/text.hpp"

namespace dkdm::results {

enum class Format { text, markdown, csv, json };

// "text", "markdown" ("md"), "csv", "json". Throws ConfigError that lists them.
Format parse_format(const std::string& name);

enum class Align { left, right };

struct Column {
  std::string title;
  Align align = Align::left;
  bool number = false;  // cells that are JSON numbers are written as numbers in JSON
};

// UTF-8 text, or nothing (null in JSON, empty elsewhere). strong: bold where the format has bold.
struct Cell {
  Cell() = default;
  Cell(std::string value) : text(std::move(value)) {}
  Cell(const char* value) : text(value) {}
  std::optional<std::string> text;
  std::optional<std::string> raw;  // what csv and json have instead of text ("120.25", not "2:00")
  bool strong = false;             // the best of its column
  bool fault = false;              // says that something went wrong
};

struct Table {
  std::string title;  // "" = none; text and markdown show it, csv and json do not
  std::vector<Column> columns;
  std::vector<std::vector<Cell>> rows;  // each as long as columns

  // Ends with a newline. text: aligned columns, control characters made visible; `colour`: strong
  // cells bold and faults red, by a terminal's escape sequences; `columns` > 0: the table fits a
  // terminal that is so wide. Long texts and titles are broken into lines, numbers never; what does
  // not fit even so is left out from the right, and a last line names it. 0: as wide as it is.
  // markdown: GitHub's tables, special characters escaped. csv: RFC 4180 with a header line. json:
  // an array of objects, keys in the columns' order.
  std::string render(Format format, bool colour = false, int columns = 0) const;
};

}  // namespace dkdm::results
