// Lines that use a plugin, for a person to paste into an experiment file.
#pragma once

#include <string>

#include "plugin/registry.hpp"

namespace dkdm::config {

// The plugin's section (a method's: a row) with every parameter at its default; where the plugin is
// not shipped, a comment says how an experiment names its file. load_experiment accepts it as it
// is.
DKDM_API std::string experiment_snippet(const plugin::PluginInfo& info);

}  // namespace dkdm::config
