// dkdm run --dry-run: every stage of experiments rehearsed (run/rehearsal.hpp), nothing recorded.
#pragma once

#include <filesystem>
#include <vector>

#include "cli/session.hpp"

namespace dkdm::cli {

// Prints a table of stages for each experiment. Returns the exit code: 1 where a stage failed.
int dry_run(Context& context, const std::vector<std::filesystem::path>& files,
            const Options& options);

}  // namespace dkdm::cli
