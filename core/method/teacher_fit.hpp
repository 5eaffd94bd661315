// Whether a teacher can teach a run, or be scored in its table.
#pragma once

#include <string>

#include "dkdm/host.hpp"

namespace dkdm {

// Why images of `teacher` are not those of a run with images `shape`: other sides or channels. "" =
// they are.
std::string image_misfit(const TrainedModel& teacher, const SampleShape& shape);

// Why a student that is trained with `run` cannot learn the steps of `teacher`: another noise
// process. "" = it can.
std::string process_misfit(const TrainedModel& teacher, const DiffusionConfig& run);

}  // namespace dkdm
