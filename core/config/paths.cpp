#include "config/paths.hpp"

#include <set>

#include "log/log.hpp"

namespace dkdm::config {
namespace {

namespace fs = std::filesystem;

// Whether a parameter of these plugins, whose fingerprints say what they read, names a file or
// folder.
bool is_path(const std::string& kind, const Param& param) {
  static const std::set<std::string> names{"path", "root", "file", "folder", "weights"};
  return (kind == "dataset" || kind == "teacher" || kind == "evaluator") &&
         names.contains(param.name) && std::holds_alternative<std::string>(param.default_value) &&
         param.choices.empty();
}

// A weight file's parameter may hold a bare name instead, which its plugin knows
// ("fashion-mnist-16", "train"): what has no folder in it and is no file.
bool is_name(const Param& param, const std::string& text, const fs::path& folder) {
  std::error_code error;
  return param.name == "weights" && text.find('/') == std::string::npos && !text.starts_with('~') &&
         !fs::is_regular_file(folder / text, error) && !fs::is_regular_file(text, error);
}

}  // namespace

std::string resolved_path(const std::string& text, const Entry& entry) {
  const fs::path path = expanded_home(text);
  if (text.empty() || path.is_absolute()) return path.string();
  const fs::path working = fs::current_path();
  const fs::path beside =
      ((entry.folder.empty() ? working : entry.folder) / path).lexically_normal();
  std::error_code error;
  if (!fs::exists(beside, error) && fs::exists(working / path, error)) {
    const fs::path found = (working / path).lexically_normal();
    log::warn_once("config", entry.where + ": " + entry.name +
                                 " is taken from the working folder (" + found.string() +
                                 "), since there is no " + beside.string());
    return found.string();
  }
  return beside.string();
}

Params with_paths(const std::string& kind, const ParamTable& table, const Section& section,
                  const Params& params) {
  auto values = params.values();
  for (const Param& param : table) {
    const Entry* entry = section.find(param.name);
    if (!entry || !is_path(kind, param)) continue;
    const std::string& text = params.text(param.name);
    if (!is_name(param, text, entry->folder)) values[param.name] = resolved_path(text, *entry);
  }
  return Params(table, values);
}

}  // namespace dkdm::config
