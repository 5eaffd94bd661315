// Noise schedules and the tables derived from them, all in float64.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dkdm/diffusion.hpp"

namespace dkdm::diffusion {

// beta of every step before respacing. "linear": evenly from beta_start to beta_end (Ho et al.
// 2020); "scaled_linear": squares of evenly spaced roots (Rombach et al. 2022); "cosine": from
// alpha_bar(s) = cos^2((s + 0.008) / 1.008 pi / 2), at most 0.999 (Nichol & Dhariwal 2021, Eq. 17).
// Throws ConfigError for an unknown name, or ends or a number of steps that the schedule cannot
// have.
std::vector<double> betas(const DiffusionConfig& config);

// beta of the kept steps alone: 1 - alpha_bar(kept k) / alpha_bar(kept k-1).
std::vector<double> respaced_betas(const std::vector<double>& betas,
                                   const std::vector<std::int64_t>& kept);

// Everything else that follows from beta. At least two steps.
GaussianDiffusion::Tables make_tables(const std::vector<double>& betas);

}  // namespace dkdm::diffusion
