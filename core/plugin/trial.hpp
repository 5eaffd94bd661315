// Modules that would take this process with them when they are opened: found out in a child process.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "dkdm/error.hpp"

namespace dkdm::plugin {

// "segmentation fault (signal 11)", with the likely cause where one is likely.
DKDM_API std::string signal_text(int signal);

// Opens `files` in a child process, asks each for its parameters, and says of those that end it how they
// did: "ends its process when opened: segmentation fault (signal 11): terminate called …". What a module
// writes meanwhile is seen nowhere else. Exceptions and refusals are not looked at. Throws
// std::system_error where there is no process to be had.
std::map<std::filesystem::path, std::string> deaths_on_opening(
    const std::vector<std::filesystem::path>& files);

}  // namespace dkdm::plugin
