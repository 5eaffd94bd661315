// Settings that are a struct in C++ and a section in files. One table a struct: reading, checking,
// help, keys, model.json and records follow from it, so that a new field is one line of its table
// (tables.cpp).
#pragma once

#include <map>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "dkdm/diffusion_types.hpp"
#include "dkdm/params.hpp"
#include "dkdm/sampler.hpp"

namespace dkdm::config {

template <class Config>
struct Setting {
  // The field: its type is that of the parameter.
  std::variant<bool Config::*, std::int64_t Config::*, double Config::*, std::string Config::*>
      member;
  Param param;  // of one that is added, a model folder may lack the value
};

template <class Config>
class Settings {
 public:
  // Throws std::logic_error for a parameter of another type than its field.
  explicit Settings(std::vector<Setting<Config>> settings) : settings_(std::move(settings)) {
    for (const auto& setting : settings_) {
      if (value_of(Config{}, setting).index() != setting.param.default_value.index())
        throw std::logic_error("setting " + setting.param.name + " is not of its field's type");
      table_.push_back(setting.param);
    }
  }

  const ParamTable& table() const { return table_; }
  const std::vector<Setting<Config>>& all() const { return settings_; }

  // Fields that are in no table keep what they have in a Config.
  Config read(const Params& params) const {
    Config config;
    for (const auto& setting : settings_)
      std::visit(
          [&](auto member) {
            using Field = std::remove_reference_t<decltype(config.*member)>;
            config.*member = std::get<Field>(params.values().at(setting.param.name));
          },
          setting.member);
    return config;
  }

  // Name and value, in the order of the table.
  std::vector<std::pair<std::string, Value>> values(const Config& config) const {
    std::vector<std::pair<std::string, Value>> values;
    for (const auto& setting : settings_)
      values.emplace_back(setting.param.name, value_of(config, setting));
    return values;
  }

  // "name = value" lines of all that determines a result: what keys are made of. `reads` says which
  // settings have an effect in this configuration.
  template <class Reads>
  std::string describe(const Config& config, const Reads& reads) const {
    std::string text;
    for (const auto& setting : settings_) {
      const Value value = value_of(config, setting);
      const Param& param = setting.param;
      const bool as_before = param.is_added && value == param.default_value;
      if (!param.determines_result || as_before || !reads(param.name)) continue;
      text += param.name + " = " + to_text(value) + "\n";
    }
    return text;
  }
  std::string describe(const Config& config) const {
    return describe(config, [](const std::string&) { return true; });
  }

 private:
  static Value value_of(const Config& config, const Setting<Config>& setting) {
    return std::visit([&](auto member) { return Value(config.*member); }, setting.member);
  }

  std::vector<Setting<Config>> settings_;
  ParamTable table_;
};

// [diffusion], without the respacing, which is the sampling's; of [sample] and [synthetic] what
// samplers read.
DKDM_API const Settings<DiffusionConfig>& diffusion_settings();
DKDM_API const Settings<SamplerConfig>& sampler_settings();

}  // namespace dkdm::config
