// Log lines on stderr: time, component, text. Kept apart because LibTorch's headers bring another
// fmt than the one that spdlog was built with, so no file may see both.
#pragma once

#include <string>

namespace dkdm::log {

// Once, from main. `level`: trace, debug, info, warn, error, off.
void set_up(const std::string& level);

void debug(const std::string& component, const std::string& line);
void info(const std::string& component, const std::string& line);
void warn(const std::string& component, const std::string& line);
// The same line once a process: for what every row, or every configuration of a sweep, would say
// again.
void info_once(const std::string& component, const std::string& line);
void warn_once(const std::string& component, const std::string& line);

}  // namespace dkdm::log
