// Runs in processes of their own ([experiment] isolate, a row's isolate, --isolate): a crash inside
// a plugin, or the OOM killer, is a failed run like any other, and the suite goes on.
#pragma once

#include <filesystem>
#include <vector>

#include "cli/session.hpp"

namespace dkdm::cli {

// Whether the command line or one of the experiments asks for it.
bool asks_for_isolation(Context& context, const std::vector<std::filesystem::path>& files,
                        const Options& options);

// run_experiments, with every isolated run in a process of its own and the others of a seed
// together in one. This process computes nothing; of a plugin it runs the declaration of its
// parameters alone.
int run_isolated(Context& context, const std::vector<std::filesystem::path>& files,
                 const Options& options, const run::RunOptions& run_options);

}  // namespace dkdm::cli
