// Where a run happens, for its record and for `dkdm doctor`.
#pragma once

#include "dkdm/error.hpp"
#include "record/records.hpp"

namespace dkdm::record {

DKDM_API EnvironmentRecord current_environment();

// Largest resident memory of this process so far.
DKDM_API std::int64_t peak_resident_bytes();

}  // namespace dkdm::record
