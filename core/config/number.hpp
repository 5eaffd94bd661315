// Numbers typed as arguments: the one place that turns a word of the command line into a number.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "dkdm/error.hpp"

namespace dkdm::config {

// The whole of `text` as a decimal number from `low` to `high`. Throws ConfigError at `where` (the
// option or what the number is, as in "--count" or "run number") that shows the text and the range;
// a number too big for the type is out of range like any other. Neither locale nor sign "+" nor
// white space count.
DKDM_API std::int64_t whole_number(std::string_view text, const std::string& where,
                                   std::int64_t low, std::int64_t high);
// The same for a finite real number: "0.5", "1e-3", "2".
DKDM_API double real_number(std::string_view text, const std::string& where, double low,
                            double high);

// The largest number of a run: SQLite's row ids.
inline constexpr std::int64_t kLargestId = INT64_MAX;

}  // namespace dkdm::config
