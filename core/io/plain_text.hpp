// Texts that files hold, before a person or another format sees them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace dkdm::io {

// Decodes one code point of UTF-8 at `i` and moves past it; U+FFFD and one byte for malformed
// input.
char32_t next_code_point(std::string_view text, std::size_t& i);

// Text that moves no terminal's cursor, sets no title and reorders nothing, still readable: line
// breaks and tabs stay, other control characters become \xNN, characters that turn the direction of
// writing
// \uNNNN, malformed bytes U+FFFD.
std::string printable(std::string_view text);

// The text as one word of a POSIX shell, in single quotes where it is not plain.
std::string shell_quoted(std::string_view text);
// The words of such a command line; what is not quoted means itself.
std::vector<std::string> shell_words(std::string_view line);

// Well-formed UTF-8: no surrogates, no overlong forms.
bool is_utf8(std::string_view text);

// Whether a terminal might obey a part of it.
bool has_control(std::string_view text);

// A text within a message: at most `limit` bytes of it, and '?' for control characters, which a
// terminal might obey, and for anything else outside ASCII.
std::string shown(std::string_view text, std::size_t limit = 100);

// A text that any format and terminal can take and that still tells two texts apart: at most
// `limit` bytes, control characters and what is not UTF-8 as \xNN, and at the end how long it was
// if it was cut.
std::string escaped(std::string_view text, std::size_t limit);

}  // namespace dkdm::io
