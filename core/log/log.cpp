// spdlog, whose state lies in its own shared library: one logger for the program and dkdm_core.
#include "log/log.hpp"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <mutex>
#include <set>

#include "io/plain_text.hpp"

namespace dkdm::log {
namespace {

bool is_new(const std::string& component, const std::string& line) {
  static std::mutex mutex;
  static std::set<std::string> said;
  const std::scoped_lock lock(mutex);
  return said.insert(component + '\n' + line).second;
}

}  // namespace

void set_up(const std::string& level) {
  auto log = spdlog::stderr_color_mt("dkdm");
  log->set_pattern("%H:%M:%S %^%v%$");
  log->set_level(spdlog::level::from_str(level));
  spdlog::set_default_logger(std::move(log));
}

void debug(const std::string& component, const std::string& line) {
  spdlog::debug("{}: {}", component, io::printable(line));
}

void info(const std::string& component, const std::string& line) {
  spdlog::info("{}: {}", component, io::printable(line));
}

void warn(const std::string& component, const std::string& line) {
  spdlog::warn("{}: {}", component, io::printable(line));
}

void info_once(const std::string& component, const std::string& line) {
  if (is_new(component, line)) info(component, line);
}

void warn_once(const std::string& component, const std::string& line) {
  if (is_new(component, line)) warn(component, line);
}

}  // namespace dkdm::log
