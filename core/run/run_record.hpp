// What a run's record says of the experiment and the row that it is of.
#pragma once

#include <cstdint>

#include "config/experiment.hpp"
#include "record/records.hpp"

namespace dkdm::run {

// What runs and requests of the experiment have in common.
DKDM_API record::RunRecord record_of(const config::Experiment& experiment);

// The same for one of its rows and a seed. What a plan finds out (keys, parameters, the teacher's
// weights) is left.
DKDM_API record::RunRecord record_of(const config::Experiment& experiment, const config::Row& row,
                                     std::int64_t seed);

}  // namespace dkdm::run
