// Where a run happens, for its record and for `dkdm doctor`.
#pragma once

#include "dkdm/error.hpp"
#include "record/records.hpp"

namespace dkdm::record {

DKDM_API EnvironmentRecord current_environment();

// Largest resident memory of this process, since the last restart where the system allows it
// (proc(5), clear_refs), else so far.
DKDM_API std::int64_t peak_resident_bytes();
DKDM_API void restart_peak_resident();

}  // namespace dkdm::record
