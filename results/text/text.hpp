// Text as a terminal and a file system take it, and numbers as text.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/io/plain_text.hpp"

namespace dkdm::results {

using io::next_code_point;
// The text with U+FFFD for each malformed byte.
std::string valid_utf8(std::string_view text);

// Columns a terminal uses for UTF-8 text: wide characters count 2, combining ones 0.
int display_width(std::string_view text);
// Text of at most `most` columns (>= 1): a longer one is cut between characters and ends with "…".
std::string shortened(std::string_view text, int most);

// The text in lines of at most `width` columns (>= 1), broken at spaces, within a word where that
// is longer (after "_" or "/" if it has one); at least one line. A wide character alone may stick
// out of a width of 1.
std::vector<std::string> wrapped(std::string_view text, int width);

// Text that is safe on a terminal (one line, control characters as \xNN, characters that turn the
// direction of writing as \uNNNN), or in Markdown too.
std::string terminal_text(std::string_view text);
std::string markdown_text(std::string_view text);

// A name for a file or folder out of any text, at most 100 bytes: letters, digits and . - _ stay,
// all else becomes _, and it neither is empty nor begins with a dot or a dash.
std::string plain_name(std::string_view text);

// Numbers as text: shortest that reads back the same; fixed decimals; "0.35 M"; "1:04:09".
std::string shortest(double value);
std::string fixed(double value, int decimals);
// For a person: as `shortest` where that is short, else about five digits, none of them before the
// point lost: "9.5612", "1772361234.6", "0.00012346", "1.2346e-09".
std::string readable(double value);
std::string count_text(double count);
std::string duration_text(double seconds);
// "2026-03-01 14:05" in local time.
std::string time_text(double unix_seconds);

}  // namespace dkdm::results
