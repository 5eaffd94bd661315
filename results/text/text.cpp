// Text as a terminal and a file system take it, and numbers as text.
#include "results/text/text.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <ctime>

namespace dkdm::results {
namespace {

bool within(char32_t code, char32_t first, char32_t last) { return code >= first && code <= last; }

int width_of(char32_t code) {
  if (within(code, 0x300, 0x36f) || within(code, 0x200b, 0x200f) || within(code, 0xfe00, 0xfe0f)) {
    return 0;
  }
  const bool wide = within(code, 0x1100, 0x115f) || within(code, 0x2e80, 0xa4cf) ||
                    within(code, 0xac00, 0xd7a3) || within(code, 0xf900, 0xfaff) ||
                    within(code, 0xfe30, 0xfe6f) || within(code, 0xff00, 0xff60) ||
                    within(code, 0xffe0, 0xffe6) || within(code, 0x1f300, 0x1faff) ||
                    within(code, 0x20000, 0x3fffd);
  return wide ? 2 : 1;
}

}  // namespace

std::string valid_utf8(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const auto start = i;
    if (next_code_point(text, i) == 0xfffd) out += "\xef\xbf\xbd";
    else out += text.substr(start, i - start);
  }
  return out;
}

int display_width(std::string_view text) {
  int width = 0;
  for (std::size_t i = 0; i < text.size();) width += width_of(next_code_point(text, i));
  return width;
}

std::string shortened(std::string_view text, int most) {
  if (display_width(text) <= most) return std::string(text);
  int width = 1;  // of the ellipsis
  std::size_t end = 0;
  while (true) {
    auto next = end;
    width += width_of(next_code_point(text, next));
    if (width > most) return std::string(text.substr(0, end)) + "…";
    end = next;
  }
}

std::vector<std::string> wrapped(std::string_view text, int width) {
  std::vector<std::string> lines;
  while (display_width(text) > width) {
    int used = 0;
    // Where the last space that fits is, and where a name or a path may be broken; 0 = nowhere.
    std::size_t end = 0, space = 0, joint = 0;
    while (true) {
      auto next = end;
      used += width_of(next_code_point(text, next));
      if (text[end] == ' ') space = end;
      if (used > width && end > 0) break;
      if (text[end] == '_' || text[end] == '/') joint = next;
      end = next;
    }
    const auto cut = space > 0 ? space : joint > 0 ? joint : end;
    lines.emplace_back(text.substr(0, cut));
    text.remove_prefix(space > 0 ? space + 1 : cut);
  }
  if (!text.empty() || lines.empty()) lines.emplace_back(text);
  return lines;
}

std::string terminal_text(std::string_view text) {
  std::string line(text);
  std::replace_if(
      line.begin(), line.end(), [](char c) { return c == '\n' || c == '\t' || c == '\r'; }, ' ');
  return io::printable(line);
}

std::string markdown_text(std::string_view text) {
  std::string out;
  for (const char c : terminal_text(text)) {
    if (std::string_view("\\`*|[]").find(c) != std::string_view::npos) {
      out += std::string("\\") + c;
    } else if (c == '<') {
      out += "&lt;";
    } else if (c == '&') {
      out += "&amp;";
    } else {
      out += c;
    }
  }
  return out;
}

std::string plain_name(std::string_view text) {
  std::string out;
  for (const char c : text.substr(0, 99)) {
    const bool plain =
        std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.';
    out += plain ? c : '_';
  }
  return out.empty() || out[0] == '.' || out[0] == '-' ? "_" + out : out;
}

std::string shortest(double value) {
  std::array<char, 32> buffer{};
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value).ptr;
  return {buffer.data(), end};
}

std::string fixed(double value, int decimals) {
  if (!std::isfinite(value)) return shortest(value);
  std::array<char, 400> buffer{};  // the largest double has 309 digits
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                 std::chars_format::fixed, decimals)
                       .ptr;
  return {buffer.data(), end};
}

std::string readable(double value) {
  const auto exact = shortest(value);
  constexpr std::size_t kShort = 7;
  if (exact.size() <= kShort || !std::isfinite(value)) return exact;
  const double size = std::abs(value);
  if (size >= 1e15 || size < 1e-4) {
    std::array<char, 32> buffer{};
    const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                   std::chars_format::scientific, 4)
                         .ptr;
    const std::string rounded{buffer.data(), end};
    return rounded.size() < exact.size() ? rounded : exact;
  }
  const int before =
      static_cast<int>(std::floor(std::log10(size)));  // digits before the point, less one
  const auto rounded = fixed(value, std::max(1, 4 - before));
  return rounded.size() < exact.size() ? rounded : exact;
}

std::string count_text(double count) {
  if (count < 1e3) return fixed(count, 0);
  // Below a tenth of a million "0.09 M" would say less than "90 K".
  double scale = count < 1e5 ? 1e3 : 1e6;
  std::size_t unit = count < 1e5 ? 0 : 1;
  constexpr std::string_view kUnits = "KMGTPE";
  for (; count >= 1e3 * scale && unit + 1 < kUnits.size(); ++unit) scale *= 1e3;
  const double scaled = count / scale;
  return fixed(scaled, scaled < 10 ? 2 : scaled < 100 ? 1 : 0) + " " + kUnits[unit];
}

std::string duration_text(double seconds) {
  if (seconds < 10) return fixed(seconds, 1) + " s";
  const auto whole = static_cast<std::int64_t>(std::llround(seconds));
  if (whole < 60) return std::to_string(whole) + " s";
  std::array<char, 40> text{};
  if (whole < 3600) {
    std::snprintf(text.data(), text.size(), "%d:%02d", static_cast<int>(whole / 60),
                  static_cast<int>(whole % 60));
  } else {
    std::snprintf(text.data(), text.size(), "%lld:%02d:%02d", static_cast<long long>(whole / 3600),
                  static_cast<int>(whole / 60 % 60), static_cast<int>(whole % 60));
  }
  return text.data();
}

std::string time_text(double unix_seconds) {
  const auto time = static_cast<std::time_t>(unix_seconds);
  std::tm local{};
  localtime_r(&time, &local);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M", &local);
  return text.data();
}

}  // namespace dkdm::results
