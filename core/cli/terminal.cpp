// What the terminal behind stdout can do.
#include "cli/terminal.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>

namespace dkdm::cli {

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

int stdout_columns() {
  winsize size{};
  return ::isatty(STDOUT_FILENO) != 0 && ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col
                                                                                       : 0;
}

}  // namespace dkdm::cli
