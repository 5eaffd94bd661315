// Who writes: host and process, so that a run whose process is gone can be told from a living one.
#pragma once

#include <cstdint>
#include <string>

namespace dkdm::results {

std::string host_name();

// Boot id and start time of process `pid` on this host; "" when there is no such process (or only
// its unreaped exit status). A pid that was given to another process has another token.
std::string process_token(std::int64_t pid);

}  // namespace dkdm::results
