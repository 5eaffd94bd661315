// Values held against their declarations, for those who read them from files and show them to
// people.
#pragma once

#include <string>

#include "dkdm/params.hpp"

namespace dkdm {

// "boolean", "integer", "real", "text", "list of integers", "list of reals", "list of texts".
DKDM_API std::string type_name(const Value& value);

// "range 0…1", "at most 3 elements, range 0…1", "one of a, b", or "" where anything of the type
// goes.
DKDM_API std::string range_text(const Param& param);

// Throws ConfigError when `value` is not of `param`'s type (an integer passes for a real and is
// converted; a flag may have words as well), out of range or not a choice. `where` prefixes the message.
DKDM_API Value checked(const Param& param, const Value& value, const std::string& where);

}  // namespace dkdm
