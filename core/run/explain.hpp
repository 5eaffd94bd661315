// Why a stage has to be made: what differs from the nearest one that is there.
#pragma once

#include <set>
#include <string>

#include "run/plan.hpp"

namespace dkdm::run {

// "stopped half-way, resumes"; the parts in which it differs from the nearest of `candidates`, keys
// of the same kind that this experiment made before ("differs from 1a2b3c4d in train: steps = 600
// (was 400)"); or "not run yet" where none of them is there.
DKDM_API std::string why_missing(const stages::Stage& stage, const record::ArtifactStore& store,
                                 const std::set<std::string>& candidates);

}  // namespace dkdm::run
