// A configuration's values by dotted key: "train.steps" -> 100.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>

namespace dkdm::results {

// A number, or text: strings as they are, "true" or "false", anything else as TOML writes it.
using SettingValue = std::variant<std::int64_t, double, std::string>;
using Settings = std::map<std::string, SettingValue>;

// What `config` (resolved TOML) says of its row `row`: the row's own sections lose their "row." and
// stand beside the shared ones; other rows and names for a person are left out. Empty when `config`
// is not TOML.
Settings settings_of(const std::string& config, const std::string& row);

// None for a text.
std::optional<double> number_of(const SettingValue& value);
std::string to_text(const SettingValue& value);

}  // namespace dkdm::results
