// Says on stderr where an experiment's values were measured with several evaluators.
#pragma once

#include <string>

#include "cli/context.hpp"

namespace dkdm::cli {

// Of `experiment`, or of all when it is empty: one line each, and one with the command that
// measures them alike. Nothing where there is no database.
void say_evaluator_splits(Context& context, const std::string& experiment = "");

}  // namespace dkdm::cli
