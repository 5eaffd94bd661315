// JSON's values as the types that are meant. nlohmann::json makes any number of any other: 3.7
// becomes 3, -1 becomes 2^64 - 1, and a real number that no integer holds is undefined behaviour.
// Files of others are read by these, and nothing converts by itself where nlohmann/json.hpp comes
// in through this header first.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#ifndef JSON_USE_IMPLICIT_CONVERSIONS
#define JSON_USE_IMPLICIT_CONVERSIONS 0
#endif
#include <nlohmann/json.hpp>

namespace dkdm::io {

// Whether `json` is a T: bool, std::string, a floating-point type (any number is one), or an
// integer type, of whose range it must be. JSON writes 2^63 as an unsigned number and 1e3 as a real
// one.
template <class T, class Json>
bool holds(const Json& json) {
  if constexpr (std::is_same_v<T, bool>) return json.is_boolean();
  else if constexpr (std::is_floating_point_v<T>) return json.is_number();
  else if constexpr (std::is_same_v<T, std::string>) return json.is_string();
  else if (json.is_number_unsigned()) return std::in_range<T>(json.template get<std::uint64_t>());
  else return json.is_number_integer() && std::in_range<T>(json.template get<std::int64_t>());
}

// `json` as T. Throws Json::type_error where it is none.
template <class T, class Json>
T as(const Json& json) {
  if (holds<T>(json)) return json.template get<T>();
  const char* wanted = std::is_same_v<T, bool>       ? "true or false"
                       : std::is_integral_v<T>       ? "an integer"
                       : std::is_floating_point_v<T> ? "a number"
                                                     : "a string";
  const std::string is = json.is_number() ? json.dump() : std::string(json.type_name());
  throw Json::type_error::create(302, is + ", expected " + wanted, &json);
}

// Sets `value` to json[key], as as<T>; throws Json::exception where there is no such key, too. An
// optional one is left empty where there is none, or null.
template <class T, class Json>
void read_field(const Json& json, const char* key, T& value) {
  value = as<T>(json.at(key));
}
template <class T, class Json>
void read_field(const Json& json, const char* key, std::optional<T>& value) {
  if (json.contains(key) && !json.at(key).is_null()) value = as<T>(json.at(key));
}

// The sides of images: "height" and "width", or "size", as it was before images could be
// rectangular. Zeros where there is none of them.
template <class Json>
std::pair<std::int64_t, std::int64_t> read_sides(const Json& json) {
  std::optional<std::int64_t> size, height, width;
  read_field(json, "size", size);
  read_field(json, "height", height);
  read_field(json, "width", width);
  return {height.value_or(size.value_or(0)), width.value_or(size.value_or(0))};
}

}  // namespace dkdm::io
