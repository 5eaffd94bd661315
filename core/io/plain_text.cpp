#include "io/plain_text.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>

namespace dkdm::io {
namespace {

bool within(char32_t code, char32_t first, char32_t last) { return code >= first && code <= last; }

// Marks, embeddings, overrides and isolates of right-to-left text: they reorder what stands around.
bool turns_direction(char32_t code) {
  return code == 0x61c || within(code, 0x200e, 0x200f) || within(code, 0x202a, 0x202e) ||
         within(code, 0x2066, 0x2069);
}

std::string code_text(const char* form, char32_t code) {
  std::array<char, 16> text{};
  std::snprintf(text.data(), text.size(), form, static_cast<unsigned>(code));
  return text.data();
}

}  // namespace

char32_t next_code_point(std::string_view text, std::size_t& i) {
  const auto byte = static_cast<unsigned char>(text[i++]);
  if (byte < 0x80) return byte;
  const int extra = byte >= 0xf0 && byte < 0xf8 ? 3 : byte >= 0xe0 ? 2 : byte >= 0xc2 ? 1 : 0;
  if (extra == 0 || byte >= 0xf8 || i + extra > text.size()) return 0xfffd;
  char32_t code = byte & (0x3f >> extra);
  for (int k = 0; k < extra; ++k) {
    const auto next = static_cast<unsigned char>(text[i + k]);
    if ((next & 0xc0) != 0x80) return 0xfffd;
    code = code << 6 | (next & 0x3f);
  }
  // Longer than need be, half of a pair of UTF-16, beyond Unicode's end.
  constexpr char32_t kLeast[] = {0, 0x80, 0x800, 0x10000};
  if (code < kLeast[extra] || within(code, 0xd800, 0xdfff) || code > 0x10ffff) return 0xfffd;
  i += extra;
  return code;
}

std::string printable(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const auto start = i;
    const char32_t code = next_code_point(text, i);
    const bool line_end = code == '\r' && text.substr(i, 1) == "\n";
    if (code == '\n' || code == '\t' || line_end) {
      out += static_cast<char>(code);
    } else if (code < 0x20 || within(code, 0x7f, 0x9f)) {
      out += code_text("\\x%02x", code);
    } else if (turns_direction(code)) {
      out += code_text("\\u%04x", code);
    } else if (code == 0xfffd) {
      out += "\xef\xbf\xbd";
    } else {
      out += text.substr(start, i - start);
    }
  }
  return out;
}

std::string shell_quoted(std::string_view text) {
  constexpr std::string_view kPlain =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-+=:,./@%";
  if (!text.empty() && text.find_first_not_of(kPlain) == text.npos) return std::string(text);
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string(R"('\'')") : std::string(1, c);
  return quoted + "'";
}

std::vector<std::string> shell_words(std::string_view line) {
  std::vector<std::string> words;
  bool quoted = false, inside = false;  // inside: a word has begun
  for (std::size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (!quoted && (c == ' ' || c == '\n')) {
      inside = false;
      continue;
    }
    if (!inside) words.emplace_back();
    inside = true;
    if (c == '\'') quoted = !quoted;
    else if (!quoted && c == '\\' && i + 1 < line.size()) words.back() += line[++i];
    else words.back() += c;
  }
  return words;
}

bool is_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = at;
    if (next_code_point(text, at) == 0xfffd && at == begin + 1)
      return false;  // U+FFFD itself has three bytes
  }
  return true;
}

bool has_control(std::string_view text) {
  return std::any_of(text.begin(), text.end(),
                     [](unsigned char c) { return c < 0x20 || c == 0x7f; });
}

std::string escaped(std::string_view text, std::size_t limit) {
  std::string out;
  std::size_t at = 0;
  while (at < text.size()) {
    std::size_t next = at;
    const char32_t code = next_code_point(text, next);
    if (next > limit) break;
    if (code < 0x20 || within(code, 0x7f, 0x9f)) {
      out += code_text("\\x%02x", code);
    } else if (turns_direction(code)) {
      out += code_text("\\u%04x", code);
    } else if (code == 0xfffd && next == at + 1) {  // no character: U+FFFD itself has three bytes
      out += code_text("\\x%02x", static_cast<unsigned char>(text[at]));
    } else {
      out += text.substr(at, next - at);
    }
    at = next;
  }
  if (at < text.size()) out += "… (" + std::to_string(text.size()) + " bytes)";
  return out;
}

std::string shown(std::string_view text, std::size_t limit) {
  std::string out(text.substr(0, limit));
  std::replace_if(
      out.begin(), out.end(), [](unsigned char c) { return c < 0x20 || c > 0x7e; }, '?');
  return out;
}

}  // namespace dkdm::io
