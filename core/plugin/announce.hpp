// What a plugin says of files that are absent (dkdm/announced.hpp), before an object of it is made.
#pragma once

#include "dkdm/announced.hpp"
#include "plugin/registry.hpp"

namespace dkdm::plugin {

// Nothing absent: all is there, or the plugin says nothing of it. Throws ConfigError for a plugin
// that is not loaded, PluginError for what its `announce` threw.
DKDM_API Announced announced(const Registry& registry, const PluginChoice& choice);

}  // namespace dkdm::plugin
