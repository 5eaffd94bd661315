// Declared parameters: checking, writing and hashing of values (dkdm/params.hpp).
#include "dkdm/params.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <type_traits>

#include "config/nearest.hpp"

namespace dkdm {
namespace {

template <class T>
constexpr bool is_list = std::is_same_v<T, std::vector<std::int64_t>> ||
                         std::is_same_v<T, std::vector<double>> ||
                         std::is_same_v<T, std::vector<std::string>>;

std::string element_text(bool value) { return value ? "true" : "false"; }

std::string element_text(std::int64_t value) { return std::to_string(value); }

std::string element_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::array<char, 32> buffer;
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value).ptr;
  std::string text(buffer.data(), end);
  // Without a point or an exponent TOML would read an integer.
  return text.find_first_of(".e") == std::string::npos ? text + ".0" : text;
}

std::string element_text(const std::string& value) {
  std::string text = "\"";
  for (const char c : value) {
    switch (c) {
      case '"': text += "\\\""; break;
      case '\\': text += "\\\\"; break;
      case '\n': text += "\\n"; break;
      case '\r': text += "\\r"; break;
      case '\t': text += "\\t"; break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
          std::array<char, 8> escape;
          std::snprintf(escape.data(), escape.size(), "\\u%04X", static_cast<unsigned char>(c));
          text += escape.data();
        } else {
          text += c;
        }
    }
  }
  return text + '"';
}

// A bound as a person writes it: 1, 0.5, 1e-06.
std::string bound_text(double value) {
  std::array<char, 32> buffer;
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value).ptr;
  return {buffer.data(), end};
}

// `value` in the type of `like` where nothing is lost: an integer for a real, a list of integers
// for one of reals, an empty list for any list.
Value converted(const Value& value, const Value& like) {
  if (value.index() == like.index()) return value;
  if (const auto* whole = std::get_if<std::int64_t>(&value)) {
    if (std::holds_alternative<double>(like)) return static_cast<double>(*whole);
  }
  if (const auto* list = std::get_if<std::vector<std::int64_t>>(&value)) {
    if (std::holds_alternative<std::vector<double>>(like)) {
      return std::vector<double>(list->begin(), list->end());
    }
  }
  const bool empty_list = std::visit(
      [](const auto& v) {
        if constexpr (is_list<std::decay_t<decltype(v)>>) return v.empty();
        return false;
      },
      value);
  if (!empty_list) return value;
  return std::visit(
      [&](const auto& v) -> Value {
        using T = std::decay_t<decltype(v)>;
        if constexpr (is_list<T>) return T{};
        return value;
      },
      like);
}

template <class T>
bool allowed(const Param& param, const T& value) {
  if constexpr (is_list<T>) {
    return std::all_of(value.begin(), value.end(),
                       [&](const auto& element) { return allowed(param, element); });
  } else if constexpr (std::is_same_v<T, std::string>) {
    const auto& choices = param.choices;
    return choices.empty() || std::find(choices.begin(), choices.end(), value) != choices.end();
  } else if constexpr (std::is_same_v<T, bool>) {
    return true;
  } else {
    const auto number = static_cast<double>(value);
    return !std::isnan(number) && (!param.min || number >= *param.min) &&
           (!param.max || number <= *param.max);
  }
}

template <class T>
const T& get(const std::map<std::string, Value>& values, const std::string& name) {
  const auto found = values.find(name);
  if (found == values.end()) throw std::logic_error("no parameter " + name);
  const T* value = std::get_if<T>(&found->second);
  if (!value) throw std::logic_error("parameter " + name + " is a " + type_name(found->second));
  return *value;
}

template <class T>
Param declared(std::string name, T fallback, std::string help) {
  Param param;
  param.name = std::move(name);
  param.fallback = std::move(fallback);
  param.help = std::move(help);
  return param;
}

}  // namespace

std::string type_name(const Value& value) {
  static constexpr std::array<const char*, 7> kNames{
      "boolean", "integer", "real", "text", "list of integers", "list of reals", "list of texts"};
  return kNames.at(value.index());
}

std::string to_text(const Value& value) {
  return std::visit(
      [](const auto& v) -> std::string {
        if constexpr (is_list<std::decay_t<decltype(v)>>) {
          std::string text = "[";
          const char* separator = "";
          for (const auto& element : v) {
            text += separator + element_text(element);
            separator = ", ";
          }
          return text + "]";
        } else {
          return element_text(v);
        }
      },
      value);
}

Param flag(std::string name, bool fallback, std::string help) {
  return declared(std::move(name), fallback, std::move(help));
}
Param integer(std::string name, std::int64_t fallback, std::string help) {
  return declared(std::move(name), fallback, std::move(help));
}
Param real(std::string name, double fallback, std::string help) {
  return declared(std::move(name), fallback, std::move(help));
}
Param text(std::string name, std::string fallback, std::string help) {
  return declared(std::move(name), std::move(fallback), std::move(help));
}
Param integers(std::string name, std::vector<std::int64_t> fallback, std::string help) {
  return declared(std::move(name), std::move(fallback), std::move(help));
}
Param reals(std::string name, std::vector<double> fallback, std::string help) {
  return declared(std::move(name), std::move(fallback), std::move(help));
}
Param texts(std::string name, std::vector<std::string> fallback, std::string help) {
  return declared(std::move(name), std::move(fallback), std::move(help));
}

std::string range_text(const Param& param) {
  if (!param.choices.empty()) {
    std::string text = "one of";
    const char* separator = " ";
    for (const std::string& choice : param.choices) {
      text += separator + (choice.empty() ? "\"\"" : choice);
      separator = ", ";
    }
    return text;
  }
  if (param.min && param.max) {
    return "range " + bound_text(*param.min) + "…" + bound_text(*param.max);
  }
  if (param.min) return "at least " + bound_text(*param.min);
  if (param.max) return "at most " + bound_text(*param.max);
  return "";
}

Value checked(const Param& param, const Value& value, const std::string& where) {
  Value result = converted(value, param.fallback);
  if (result.index() != param.fallback.index()) {
    throw ConfigError(where, param.name + ": expected " + type_name(param.fallback) + ", got " +
                                 type_name(value) + " " + to_text(value));
  }
  if (!std::visit([&](const auto& v) { return allowed(param, v); }, result)) {
    const std::string range = range_text(param);
    throw ConfigError(where, param.name + ": expected " + (range.empty() ? "a number" : range) +
                                 ", got " + to_text(value));
  }
  return result;
}

std::string nearest_name(const std::string& wrong, const std::vector<std::string>& names) {
  return config::nearest(wrong, names);
}

Params::Params(const ParamTable& table, const std::map<std::string, Value>& given,
               const std::string& where) {
  std::vector<std::string> names;
  for (const Param& param : table) names.push_back(param.name);
  for (const auto& [name, value] : given) {
    if (std::find(names.begin(), names.end(), name) != names.end()) continue;
    const std::string near = nearest_name(name, names);
    throw ConfigError(where, "unknown parameter \"" + name + '"' +
                                 (near.empty() ? "" : ", did you mean \"" + near + "\"?"));
  }
  for (const Param& param : table) {
    const auto found = given.find(param.name);
    if (found != given.end()) {
      values_[param.name] = checked(param, found->second, where);
    } else if (param.required) {
      throw ConfigError(where, param.name + " must be given: " + param.help);
    } else {
      values_[param.name] = param.fallback;
    }
  }
}

bool Params::flag(const std::string& name) const { return get<bool>(values_, name); }
std::int64_t Params::integer(const std::string& name) const {
  return get<std::int64_t>(values_, name);
}
double Params::real(const std::string& name) const { return get<double>(values_, name); }
const std::string& Params::text(const std::string& name) const {
  return get<std::string>(values_, name);
}
const std::vector<std::int64_t>& Params::integers(const std::string& name) const {
  return get<std::vector<std::int64_t>>(values_, name);
}
const std::vector<double>& Params::reals(const std::string& name) const {
  return get<std::vector<double>>(values_, name);
}
const std::vector<std::string>& Params::texts(const std::string& name) const {
  return get<std::vector<std::string>>(values_, name);
}

std::string Params::canonical() const {
  std::string text;
  for (const auto& [name, value] : values_) text += name + " = " + to_text(value) + "\n";
  return text;
}

}  // namespace dkdm
