// An experiment as canonical TOML: every parameter written out, defaults included.
#pragma once

#include <map>
#include <string>

#include "config/experiment.hpp"

namespace dkdm::config {

// Where values come from: "experiment.seeds", "row.dynamic.train.lr" -> "file:line:column" or "--set KEY". A value
// that is not there is a default.
using Origins = std::map<std::string, std::string>;

// Loaded again, the text gives an equal experiment. A section that all rows have in common stands once, one in
// which they differ in each row. `resolved`, `annotated` and `file` are not read.
std::string resolved_text(const Experiment& experiment);
// The same with each value's origin in a comment.
std::string resolved_text(const Experiment& experiment, const Origins& origins);

}  // namespace dkdm::config
