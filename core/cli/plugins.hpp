// The subcommands of `dkdm plugins`, one file each.
#pragma once

#include <string>

#include "cli/context.hpp"
#include "cli/options.hpp"

namespace dkdm::cli {

// One plugin in full, by its name or its module's file. Throws ConfigError that names the nearest.
void describe_plugin(const Options& options, Context& context, const std::string& word);

// Writes the folder of a new plugin: `output`, or ./NAME where that is empty. Throws ConfigError
// for a kind or name that cannot be and for a folder that exists.
void new_plugin(const Options& options, Context& context, const std::string& kind,
                const std::string& name, const std::string& output);

// Why modules were not taken; to stderr, for it is a story about the answer and breaks no format.
void print_refusals(const plugin::Registry& registry);

}  // namespace dkdm::cli
