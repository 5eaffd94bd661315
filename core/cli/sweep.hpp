// --set KEY=a,b,c: one experiment file under several configurations.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "cli/context.hpp"

namespace dkdm::cli {

// The overrides of each configuration that `overrides` ask for: one where no key is swept. A key is
// swept when its value is a list (a,b,c or [a, b, c]) that the key itself does not take:
// rho=0.1,0.2 is a sweep, respacing=10,15 is one value. Several swept keys give every combination,
// the last one varying fastest. Throws ConfigError for a value that the key does not take, and for
// more than a thousand combinations.
std::vector<std::vector<std::string>> configurations(const std::filesystem::path& file,
                                                     const std::vector<std::string>& overrides,
                                                     Context& context);

}  // namespace dkdm::cli
