// One plugin file: opened, its handshake checked, never closed (LibTorch crashes at exit when a
// module has been unmapped).
#pragma once

#include <filesystem>

#include "dkdm/plugin.hpp"

namespace dkdm::plugin {

// The table of the module in `file`, whose kind is one that there is. Throws PluginError, one line
// with the remedy, for anything that is not a module of this dkdm: a folder, no permission, not a
// (whole) shared library, a missing library or symbol, another ABI number, another build id. A file
// cut short is found before the system's loader sees it, which could die of it.
const DkdmPluginTable& open_module(const std::filesystem::path& file);

// The declared parameters. Throws PluginError when asking for them fails or they contradict
// themselves.
ParamTable declared_params(const DkdmPluginTable& table, const std::filesystem::path& file);

}  // namespace dkdm::plugin
