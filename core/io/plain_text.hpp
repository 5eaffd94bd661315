// Texts that files hold, before a person or another format sees them.
#pragma once

#include <string>
#include <string_view>

namespace dkdm::io {

// Well-formed UTF-8: no surrogates, no overlong forms.
bool is_utf8(std::string_view text);

// Whether a terminal might obey a part of it.
bool has_control(std::string_view text);

// A text within a message: at most `limit` bytes of it, and '?' for control characters, which a
// terminal might obey, and for anything else outside ASCII.
std::string shown(std::string_view text, std::size_t limit = 100);

}  // namespace dkdm::io
