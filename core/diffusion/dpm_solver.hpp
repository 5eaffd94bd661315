// DPM-Solver++ (Lu et al. 2022), second order, multistep, uniform in time: as the authors' code calls
// it. Coefficients are float64.
#pragma once

#include <cstdint>
#include <vector>

#include "dkdm/diffusion.hpp"

namespace dkdm::diffusion {

// One network call at x and the move that follows it:
//   x0 = (x - sigma eps(x, time)) / alpha,  x <- of_x x + of_x0 x0 + of_earlier (x0 of the step before)
struct SolverStep {
  double time;  // what the network is called with: a step index, not whole
  double alpha, sigma;
  double of_x, of_x0, of_earlier;  // of_earlier is 0 in the first step
};

// `steps` (at least 2) moves over the steps of `process` whose log(alpha / sigma) is at least -5.1: the
// reference's guard for schedules that end in pure noise, which drops the last 4 of 1000 cosine
// steps. Time runs uniformly from 1 to 1/N over the N that are left and stretches over all T labels.
// With fewer than 10 steps the last move is of first order.
std::vector<SolverStep> solver_steps(const GaussianDiffusion& process, std::int64_t steps);

// Dynamic thresholding (Saharia et al. 2022): each sample of x0 [N,…] clamped to ±s and divided by s,
// s the 0.995 quantile of its absolute values, or 1 where that is less.
at::Tensor dynamic_threshold(const at::Tensor& x0);

}  // namespace dkdm::diffusion
