// An experiment file as one tree: its bases below it, its sweeps expanded.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "config/document.hpp"

namespace dkdm::config {

// Files that an experiment inherits from: path, and who names it, as in "the base of a.toml:1:8".
using Bases = std::vector<std::pair<std::string, std::string>>;

// `file` laid over the files that its key `base` names (a path or a list, a later one over an
// earlier one), each over its own, by the rules of overlaid(). A base is looked for beside the file
// that names it, then in `shipped`, the folder of the shipped experiments ("" = none). Then each
// row with a `sweep` becomes one row a combination of the values of its lists, the last list
// varying fastest. `bases` is filled also where this throws. Throws DataError where there is no
// such file; ConfigError: a base that is missing or leads back to itself, a section that one has as
// a value, a sweep of nothing or of mixed types.
Section composed(const std::filesystem::path& file, const std::filesystem::path& shipped,
                 Bases& bases);

}  // namespace dkdm::config
