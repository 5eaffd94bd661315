#include "run/explain.hpp"

#include <algorithm>
#include <set>
#include <sstream>

namespace dkdm::run {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

// The lines of `now` that `before` does not have; a part of one line is itself the difference.
std::string changed_lines(const std::string& now, const std::string& before) {
  const auto old_lines = lines_of(before);
  const std::set<std::string> known(old_lines.begin(), old_lines.end());
  std::string text;
  for (const auto& line : lines_of(now)) {
    if (known.contains(line)) continue;
    text += (text.empty() ? "" : ", ") + line;
    const auto name = line.substr(0, line.find(" = "));
    for (const auto& old : old_lines)
      if (name != line && old.starts_with(name + " = "))
        text += " (was " + old.substr(name.size() + 3) + ")";
  }
  return text;
}

std::vector<std::string> differences(const record::KeyParts& now, const record::KeyParts& before) {
  std::vector<std::string> result;
  for (const auto& [name, value] : now) {
    const auto old =
        std::find_if(before.begin(), before.end(),
                     [&, &name = name](const auto& part) { return part.first == name; });
    if (old == before.end()) result.push_back(name);
    else if (old->second != value) {
      const bool readable = value.size() < 400 && value.find('=') != std::string::npos;
      result.push_back(readable ? name + ": " + changed_lines(value, old->second) : name);
    }
  }
  return result;
}

}  // namespace

std::string why_missing(const stages::Stage& stage, const record::ArtifactStore& store,
                        const std::set<std::string>& candidates) {
  if (store.has_partial_work(name_of(stage.kind), stage.key)) return "stopped half-way, resumes";
  std::string nearest_key;
  std::vector<std::string> nearest;
  for (const auto& key : candidates) {
    if (key == stage.key) continue;
    const auto manifest = store.find(name_of(stage.kind), key);
    if (!manifest) continue;
    const auto found = differences(stage.parts, manifest->parts);
    if (nearest_key.empty() || found.size() < nearest.size()) {
      nearest_key = key;
      nearest = found;
    }
  }
  if (nearest_key.empty()) return "not run yet";
  std::string text = "differs from " + nearest_key.substr(0, 8) + " in ";
  for (std::size_t i = 0; i < nearest.size(); ++i) text += (i ? "; " : "") + nearest[i];
  return text;
}

}  // namespace dkdm::run
