// Declared, typed, documented parameters: the table by which the host checks an experiment file,
// fills defaults, prints `dkdm plugins describe` and hashes a configuration.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "dkdm/error.hpp"

namespace dkdm {

using Value = std::variant<bool, std::int64_t, double, std::string, std::vector<std::int64_t>,
                           std::vector<double>, std::vector<std::string>>;

// As TOML writes it: true, 3, 0.1, "text", [1, 2]. Reals as short as reads back equal.
DKDM_API std::string to_text(const Value& value);

// One parameter. The type is that of `default_value`. Build with the functions below.
struct DKDM_API Param {
  std::string name;
  Value default_value;
  std::string help;                  // one line
  std::optional<double> min, max;    // inclusive; for numbers and for each element of a list
  std::size_t longest = 1000;        // elements of a list
  std::vector<std::string> choices;  // for text; empty = any. Of a flag: words besides true, false
  bool is_required = false;
  bool determines_result = true;  // false: says how to work or what to show, and enters no key
  bool is_added = false;  // came when there were keys: at its default, which stays, it is in none

  Param& at_least(double low);
  Param& at_most(double high);
  Param& between(double low, double high);
  Param& one_of(std::vector<std::string> allowed);
  Param& required();
  Param& no_effect_on_result();
  Param& added();
  Param& at_most_elements(std::size_t count);

  // The bounds that hold: where none is declared, integers lie within ±1e9 and reals within ±1e12.
  double lowest() const;
  double highest() const;
};

DKDM_API Param flag(std::string name, bool default_value, std::string help);
DKDM_API Param integer(std::string name, std::int64_t default_value, std::string help);
DKDM_API Param real(std::string name, double default_value, std::string help);
DKDM_API Param text(std::string name, std::string default_value, std::string help);
DKDM_API Param integers(std::string name, std::vector<std::int64_t> defaults, std::string help);
DKDM_API Param reals(std::string name, std::vector<double> default_value, std::string help);
DKDM_API Param texts(std::string name, std::vector<std::string> default_value, std::string help);

using ParamTable = std::vector<Param>;

// Values for a table, all present and checked. Asking for another name or type: std::logic_error.
class DKDM_API Params {
 public:
  Params() = default;
  // `given` overrides defaults. Throws ConfigError for an unknown name (with the nearest known
  // one), a wrong type, an impossible value or a required parameter that is absent.
  Params(const ParamTable& table, const std::map<std::string, Value>& given,
         const std::string& where = "");

  bool flag(const std::string& name) const;
  std::int64_t integer(const std::string& name) const;
  double real(const std::string& name) const;
  const std::string& text(const std::string& name) const;
  const std::vector<std::int64_t>& integers(const std::string& name) const;
  const std::vector<double>& reals(const std::string& name) const;
  const std::vector<std::string>& texts(const std::string& name) const;

  const std::map<std::string, Value>& values() const { return values_; }
  // Sorted `name = value` lines: equal exactly when two configurations are.
  std::string canonical() const;
  // Those of values() that are input of content keys (Param::determines_result, is_added).
  std::map<std::string, Value> determining() const;

 private:
  std::map<std::string, Value> values_;
  std::vector<std::string> not_in_keys_;
};

}  // namespace dkdm
