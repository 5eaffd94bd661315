// What an experiment asks of this machine, before anything is made of it. Each number alone is held
// in its range where it is declared; here are their products.
#pragma once

#include <filesystem>

#include "config/experiment.hpp"
#include "run/cost.hpp"
#include "run/sources.hpp"
#include "stages/stages.hpp"

namespace dkdm::run {

// Throws ConfigError naming the file, the section or row and the numbers: for image shapes outside
// what is supported, at scale "paper" sample sets too small for the evaluator, networks of which
// training's copies do not fit the memory, batches and batch sets that do not, sample sets that are
// kept and that the whole disk of `store` would not hold, and for more runs or evaluations than
// anybody can mean.
DKDM_API void check_limits(const config::Experiment& experiment,
                           const stages::StageContext& context, Sources& sources, CostModel& cost,
                           std::size_t seeds, const std::filesystem::path& store);

}  // namespace dkdm::run
