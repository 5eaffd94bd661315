// Tries modules in a child process, so that one that must not be used leaves no trace in this one:
// its initialisers, threads and exit handlers run there alone.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "dkdm/error.hpp"

namespace dkdm::plugin {

// "segmentation fault (signal 11)", with the likely cause where one is likely.
DKDM_API std::string signal_text(int signal);

// Seconds that a module may take to open and to say its parameters, and that a process which a
// plugin stopped stays stopped: $DKDM_PLUGIN_TIMEOUT, else 30. Throws ConfigError when that is no
// number of seconds.
DKDM_API double probe_seconds();

struct Probe {
  std::string refusal;  // why the module cannot be used, one line with file and remedy; "" = it can
  std::string name;     // the plugin's
};

// Opens each of `files` in a child process, asks it for its table and its parameters, and says what
// came of it: "FILE: open: ends its process when opened: segmentation fault (signal 11), saying:
// terminate called …". A module that stops or takes longer than probe_seconds() is ended. What a
// module writes meanwhile is seen nowhere else, and not kept beyond a megabyte. Throws
// std::system_error where there is no process to be had.
DKDM_API std::map<std::filesystem::path, Probe> probe_modules(
    const std::vector<std::filesystem::path>& files);

}  // namespace dkdm::plugin
