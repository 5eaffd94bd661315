// Declared parameters: checking, writing and hashing of values (dkdm/params.hpp).
#include "dkdm/params.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <type_traits>

#include "dkdm/nearest.hpp"
#include "plugin/param_check.hpp"

namespace dkdm {
namespace {

template <class T>
constexpr bool is_list =
    std::is_same_v<T, std::vector<std::int64_t>> || std::is_same_v<T, std::vector<double>> ||
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

// What a number may be where its parameter declares no bound: more than any count, width or weight
// of this field, and products of two of them are still far from overflow.
constexpr double kLargestInteger = 1e9, kLargestReal = 1e12;

double largest(const Value& like) {
  const bool whole = std::holds_alternative<std::int64_t>(like) ||
                     std::holds_alternative<std::vector<std::int64_t>>(like);
  return whole ? kLargestInteger : kLargestReal;
}

bool is_number(const Value& value) {
  return std::holds_alternative<std::int64_t>(value) || std::holds_alternative<double>(value) ||
         std::holds_alternative<std::vector<std::int64_t>>(value) ||
         std::holds_alternative<std::vector<double>>(value);
}

// A flag that has words besides true and false.
bool has_words(const Param& param) {
  return std::holds_alternative<bool>(param.default_value) && !param.choices.empty();
}

// A bound as a person writes it: 1, 100000, 0.5, 1e-06.
std::string bound_text(double value) {
  constexpr double kWritten = 1e15;
  if (std::abs(value) < kWritten && value == std::floor(value))
    return std::to_string(static_cast<std::int64_t>(value));
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
    return value.size() <= param.longest &&
           std::all_of(value.begin(), value.end(),
                       [&](const auto& element) { return allowed(param, element); });
  } else if constexpr (std::is_same_v<T, std::string>) {
    const auto& choices = param.choices;
    return choices.empty() || std::find(choices.begin(), choices.end(), value) != choices.end();
  } else if constexpr (std::is_same_v<T, bool>) {
    return true;
  } else {
    if constexpr (std::is_same_v<T, std::int64_t>) {
      // Exactly: as a double, 2^53 + 1 would pass for 2^53.
      const double most = 9.2e18;
      const auto bound = [most](double b) { return static_cast<T>(std::clamp(b, -most, most)); };
      return value >= bound(std::ceil(param.lowest())) &&
             value <= bound(std::floor(param.highest()));
    } else {
      return value >= param.lowest() && value <= param.highest();  // false for NaN
    }
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
Param declared(std::string name, T default_value, std::string help) {
  Param param;
  param.name = std::move(name);
  param.default_value = std::move(default_value);
  param.help = std::move(help);
  return param;
}

// A value as an error shows it: long lists and texts are cut.
std::string shown(const Value& value) {
  constexpr std::size_t kMost = 80;
  std::string text = to_text(value);
  if (text.size() <= kMost) return text;
  std::size_t end = kMost;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80)
    --end;  // UTF-8's middle
  return text.substr(0, end) + "…";
}

}  // namespace

Param& Param::at_least(double low) {
  min = low;
  return *this;
}

Param& Param::at_most(double high) {
  max = high;
  return *this;
}

Param& Param::between(double low, double high) { return at_least(low).at_most(high); }

Param& Param::one_of(std::vector<std::string> allowed) {
  choices = std::move(allowed);
  return *this;
}

Param& Param::required() {
  is_required = true;
  return *this;
}

Param& Param::no_effect_on_result() {
  determines_result = false;
  return *this;
}

Param& Param::added() {
  is_added = true;
  return *this;
}

Param& Param::at_most_elements(std::size_t count) {
  longest = count;
  return *this;
}

double Param::lowest() const { return min.value_or(-largest(default_value)); }
double Param::highest() const { return max.value_or(largest(default_value)); }

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

Param flag(std::string name, bool default_value, std::string help) {
  return declared(std::move(name), default_value, std::move(help));
}
Param integer(std::string name, std::int64_t default_value, std::string help) {
  return declared(std::move(name), default_value, std::move(help));
}
Param real(std::string name, double default_value, std::string help) {
  return declared(std::move(name), default_value, std::move(help));
}
Param text(std::string name, std::string default_value, std::string help) {
  return declared(std::move(name), std::move(default_value), std::move(help));
}
Param integers(std::string name, std::vector<std::int64_t> default_value, std::string help) {
  return declared(std::move(name), std::move(default_value), std::move(help));
}
Param reals(std::string name, std::vector<double> default_value, std::string help) {
  return declared(std::move(name), std::move(default_value), std::move(help));
}
Param texts(std::string name, std::vector<std::string> default_value, std::string help) {
  return declared(std::move(name), std::move(default_value), std::move(help));
}

std::string range_text(const Param& param) {
  if (!param.choices.empty()) {
    std::string text = has_words(param) ? "one of true, false" : "one of";
    const char* separator = has_words(param) ? ", " : " ";
    for (const std::string& choice : param.choices) {
      text += separator + (choice.empty() ? "\"\"" : choice);
      separator = ", ";
    }
    return text;
  }
  if (!is_number(param.default_value)) return "";
  std::string text;
  if (type_name(param.default_value).starts_with("list"))
    text = "at most " + std::to_string(param.longest) + " elements, ";
  return text + "range " + bound_text(param.lowest()) + "…" + bound_text(param.highest());
}

Value checked(const Param& param, const Value& value, const std::string& where) {
  Value result = converted(value, param.default_value);
  const bool word = has_words(param) && std::holds_alternative<std::string>(value);
  if (result.index() != param.default_value.index() && !word) {
    throw ConfigError(where, param.name + ": expected " + type_name(param.default_value) +
                                 ", got " + type_name(value) + " " + shown(value));
  }
  if (!std::visit([&](const auto& v) { return allowed(param, v); }, result)) {
    std::string range = range_text(param);
    if (range.empty()) range = "at most " + std::to_string(param.longest) + " elements";
    throw ConfigError(where, param.name + ": expected " + range + ", got " + shown(value));
  }
  return result;
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
    } else if (param.is_required) {
      throw ConfigError(where, param.name + " must be given: " + param.help);
    } else {
      values_[param.name] = param.default_value;
    }
    if (!param.determines_result || (param.is_added && values_[param.name] == param.default_value))
      not_in_keys_.push_back(param.name);
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

std::map<std::string, Value> Params::determining() const {
  auto determining = values_;
  for (const std::string& name : not_in_keys_) determining.erase(name);
  return determining;
}

std::string Params::canonical() const {
  std::string text;
  for (const auto& [name, value] : values_) text += name + " = " + to_text(value) + "\n";
  return text;
}

}  // namespace dkdm
