// Who writes: host and process, so that a run whose process is gone can be told from a living one.
#pragma once

#include "core/run/process.hpp"

namespace dkdm::results {

using run::host_name;
using run::process_token;

}  // namespace dkdm::results
