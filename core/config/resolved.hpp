// An experiment as canonical TOML: every parameter written out, defaults included.
#pragma once

#include <string>

#include "config/experiment.hpp"
#include "config/section_reader.hpp"

namespace dkdm::config {

// Loaded again, the text gives an equal experiment. A section that all rows have in common stands
// once, one in which they differ in each row. `resolved`, `annotated` and `file` are not read.
DKDM_API std::string resolved_text(const Experiment& experiment);
// The same with each value's origin in a comment.
std::string resolved_text(const Experiment& experiment, const Origins& origins);

}  // namespace dkdm::config
