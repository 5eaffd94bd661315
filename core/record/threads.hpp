// How many threads one operation of LibTorch really runs on, and why so many.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "dkdm/error.hpp"

namespace dkdm::record {

// Threads that a parallel region of this process has: counted in one, not asked for.
DKDM_API std::int64_t working_threads();

// Which setting made `threads` of them on a processor of `cores`, with what was ignored. LibTorch
// takes MKL's number for all of its work: MKL_NUM_THREADS wins over OMP_NUM_THREADS, and neither
// gives more than the cores unless MKL_DYNAMIC is false. `variable` is getenv, or a test's.
DKDM_API std::string reason_for_threads(std::int64_t threads, std::int64_t cores,
                                        const std::function<const char*(const char*)>& variable);

}  // namespace dkdm::record
