// Flattens TOML.
#include "results/store/settings.hpp"

#include <set>
#include <sstream>

#include "core/config/toml.hpp"
#include "dkdm/documents.hpp"
#include "results/text/table.hpp"

namespace dkdm::results {
namespace {

SettingValue value_of(const toml::node& node) {
  if (const auto number = node.value_exact<std::int64_t>()) return *number;
  if (const auto number = node.value_exact<double>()) return *number;
  if (const auto text = node.value_exact<std::string>()) return *text;
  std::ostringstream text;
  node.visit([&](const auto& concrete) { text << concrete; });
  return text.str();
}

void flatten(const toml::table& table, const std::string& path,
             const std::set<std::string>& without, Settings& out) {
  for (const auto& [key, node] : table) {
    const std::string name(key.str());
    if (without.count(name) > 0) continue;
    const auto full = path.empty() ? name : path + "." + name;
    if (const auto* inner = node.as_table()) {
      flatten(*inner, full, {}, out);
    } else {
      out[full] = value_of(node);
    }
  }
}

}  // namespace

Settings settings_of(const std::string& config, const std::string& row) {
  Settings settings;
  toml::table document;
  if (io::too_deep(config, io::Syntax::toml) != std::string::npos) return settings;
  try {
    document = toml::parse(config);
  } catch (const toml::parse_error&) {
    return settings;
  }
  flatten(document, "", {"row"}, settings);
  for (const char* shown : {"name", "title", "published", "expected_minutes", "seeds"}) {
    settings.erase(std::string("experiment.") + shown);
  }
  if (const auto* rows = document["row"].as_array()) {
    for (const auto& element : *rows) {
      const auto* table = element.as_table();
      if (table != nullptr && (*table)["id"].value<std::string>() == row) {
        flatten(*table, "", {"id", "label", "published"}, settings);
      }
    }
  }
  return settings;
}

std::optional<double> number_of(const SettingValue& value) {
  if (const auto* number = std::get_if<std::int64_t>(&value)) return static_cast<double>(*number);
  if (const auto* number = std::get_if<double>(&value)) return *number;
  return std::nullopt;
}

std::string to_text(const SettingValue& value) {
  if (const auto* number = std::get_if<std::int64_t>(&value)) return std::to_string(*number);
  if (const auto* number = std::get_if<double>(&value)) return shortest(*number);
  return std::get<std::string>(value);
}

}  // namespace dkdm::results
