// Words as numbers (config/number.hpp).
#include "config/number.hpp"

#include <array>
#include <charconv>
#include <cmath>
#include <limits>

namespace dkdm::config {
namespace {

std::string shown(double value) {
  std::array<char, 32> buffer{};
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value).ptr;
  return {buffer.data(), end};
}

// A bound that is the type's own says nothing to a person.
[[noreturn]] void refuse(std::string_view text, const std::string& where, const std::string& kind,
                         const std::string& low, const std::string& high) {
  std::string range;
  if (!low.empty() && !high.empty()) range = " from " + low + " to " + high;
  else if (!low.empty()) range = ", " + low + " or more";
  else if (!high.empty()) range = ", " + high + " or less";
  constexpr std::size_t kShown = 40;
  const std::string word(text.substr(0, kShown));
  throw ConfigError(
      where, "expected " + kind + range + ", got '" + word + (text.size() > kShown ? "…'" : "'"));
}

}  // namespace

std::int64_t whole_number(std::string_view text, const std::string& where, std::int64_t low,
                          std::int64_t high) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc() && end == text.data() + text.size() && value >= low && value <= high)
    return value;
  using Limits = std::numeric_limits<std::int64_t>;
  refuse(text, where, "a whole number", low == Limits::min() ? "" : std::to_string(low),
         high == Limits::max() ? "" : std::to_string(high));
}

double real_number(std::string_view text, const std::string& where, double low, double high) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc() && end == text.data() + text.size() && std::isfinite(value) &&
      value >= low && value <= high)
    return value;
  refuse(text, where, "a number", std::isfinite(low) ? shown(low) : "",
         std::isfinite(high) ? shown(high) : "");
}

}  // namespace dkdm::config
