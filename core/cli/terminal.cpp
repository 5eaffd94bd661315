// What the terminal behind stdout can do.
#include "cli/terminal.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <iostream>
#include <string_view>

#include "io/plain_text.hpp"

namespace dkdm::cli {

namespace {

constexpr int kNarrowest = 20;  // below that nothing can be read

}  // namespace

bool stdout_has_colour() {
  const char* refused = std::getenv("NO_COLOR");
  const char* terminal = std::getenv("TERM");
  return ::isatty(STDOUT_FILENO) != 0 && (refused == nullptr || *refused == '\0') &&
         (terminal == nullptr || std::string_view(terminal) != "dumb");
}

bool stdout_is_utf8() {
  if (::isatty(STDOUT_FILENO) == 0) return true;
  for (const char* variable : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const char* locale = std::getenv(variable);
    if (locale == nullptr || *locale == '\0') continue;  // the next one decides
    const std::string_view name(locale);
    return name.find("UTF-8") != name.npos || name.find("utf8") != name.npos ||
           name.find("utf-8") != name.npos;
  }
  return false;
}

void print_exactly(const std::string& text) {
  std::cout << (::isatty(STDOUT_FILENO) != 0 ? io::printable(text) : text);
}

void print_written(const std::filesystem::path& file) {
  const auto name = file.string();
  if (name.starts_with("/dev/") || name.starts_with("/proc/")) return;
  std::cout << name << '\n';
}

int stdout_columns() {
  // Shells keep COLUMNS to themselves: in the environment it is a wish, also for a pipe.
  if (const char* wish = std::getenv("COLUMNS")) {
    int columns = 0;
    const char* const end = wish + std::string_view(wish).size();
    const auto [rest, error] = std::from_chars(wish, end, columns);
    if (error == std::errc() && rest == end && columns > 0) return std::max(columns, kNarrowest);
  }
  if (::isatty(STDOUT_FILENO) == 0) return 0;
  winsize size{};
  const bool known = ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  constexpr int kUsual = 80;
  return known ? std::max<int>(size.ws_col, kNarrowest) : kUsual;
}

int stdout_rows() {
  winsize size{};
  constexpr int kUsual = 24;
  return ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 ? size.ws_row : kUsual;
}

}  // namespace dkdm::cli
