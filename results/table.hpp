// A table of text and its renderings. Every listing of the program is one of these.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

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
  // cells bold and faults red, by a terminal's escape sequences. markdown: GitHub's tables, special
  // characters escaped. csv: RFC 4180 with a header line. json: an array of objects, keys in the
  // columns' order.
  std::string render(Format format, bool colour = false) const;
};

// Decodes one code point of UTF-8 at `i` and moves past it; U+FFFD and one byte for malformed input.
char32_t next_code_point(std::string_view text, std::size_t& i);
// The text with U+FFFD for each malformed byte.
std::string valid_utf8(std::string_view text);

// Columns a terminal uses for UTF-8 text: wide characters count 2, combining ones 0.
int display_width(std::string_view text);
// Text of at most `most` columns (>= 1): a longer one is cut between characters and ends with "…".
std::string shortened(std::string_view text, int most);

// Text that is safe on a terminal (one line, control characters as \xNN, characters that turn the
// direction of writing as \uNNNN), or in Markdown too.
std::string terminal_text(std::string_view text);
std::string markdown_text(std::string_view text);

// A name for a file or folder out of any text, at most 100 bytes: letters, digits and . - _ stay, all
// else becomes _, and it neither is empty nor begins with a dot or a dash.
std::string plain_name(std::string_view text);

// Numbers as text: shortest that reads back the same; fixed decimals; "0.35 M"; "1:04:09".
std::string shortest(double value);
std::string fixed(double value, int decimals);
std::string count_text(double count);
std::string duration_text(double seconds);
// "2026-03-01 14:05" in local time.
std::string time_text(double unix_seconds);

}  // namespace dkdm::results
