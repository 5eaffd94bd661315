// An experiment as canonical TOML: every parameter written out, defaults included.
#pragma once

#include <string>

#include "config/experiment.hpp"

namespace dkdm::config {

// Loaded again, the text gives an equal experiment. `resolved` and `file` are not read.
std::string resolved_text(const Experiment& experiment);

}  // namespace dkdm::config
