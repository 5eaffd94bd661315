// Where the paths of experiment files lead.
#pragma once

#include <string>

#include "config/document.hpp"
#include "dkdm/params.hpp"

namespace dkdm::config {

// Where the path `text` of `entry` leads: one of a file is relative to the file's folder, one of an
// override to the working folder, "~/" is the home folder. A file's path that only fits the working
// folder keeps working, and the log says so.
std::string resolved_path(const std::string& text, const Entry& entry);

// `params` of a plugin of kind `kind`, read from `section`, with the paths that `section` states
// leading where they should. What is written where a weight file is expected and is no file stays
// as it is: a name that the plugin knows.
Params with_paths(const std::string& kind, const ParamTable& table, const Section& section,
                  const Params& params);

}  // namespace dkdm::config
