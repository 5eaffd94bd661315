// Noise schedules and the tables derived from them, all in float64.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dkdm/diffusion.hpp"

namespace dkdm::diffusion {

// beta of every step. "linear": 1e-4 … 0.02 scaled by 1000 / steps (Ho et al. 2020); "cosine": from
// alpha_bar(s) = cos^2((s + 0.008) / 1.008 pi / 2), at most 0.999 (Nichol & Dhariwal 2021, Eq. 17).
// Throws ConfigError for an unknown name or a number of steps that the schedule cannot have.
std::vector<double> betas(const std::string& schedule, std::int64_t steps);

// beta of the kept steps alone: 1 - alpha_bar(kept k) / alpha_bar(kept k-1).
std::vector<double> respaced_betas(const std::vector<double>& betas,
                                   const std::vector<std::int64_t>& kept);

// Everything else that follows from beta. At least two steps.
GaussianDiffusion::Tables make_tables(const std::vector<double>& betas);

}  // namespace dkdm::diffusion
