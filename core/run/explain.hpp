// Why a stage has to be made: what differs from the nearest one that is there.
#pragma once

#include <string>

#include "run/plan.hpp"

namespace dkdm::run {

// "nothing like it yet", "stopped half-way, continues", or the parts in which the nearest artifact of
// the same kind differs ("differs from 1a2b3c4d in train: steps = 600 (was 400)").
DKDM_API std::string why_missing(const Stage& stage, const ArtifactStore& store);

}  // namespace dkdm::run
