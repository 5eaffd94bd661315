// Drawing images from a network. Threads: one at a time for each network.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "dkdm/denoiser.hpp"
#include "dkdm/diffusion.hpp"

namespace dkdm {

struct SamplerConfig {
  std::string sampler = "ancestral";  // one of sampler_names()
  double eta = 0;                     // DDIM's stochasticity; ignored by the others
  bool clip_denoised = true;       // clamp the predicted image; dpm-solver: threshold dynamically
  std::int64_t solver_steps = 20;  // of dpm-solver, at least 2; ignored by the others
  // DDIM's by diffusers' names, ignored by the others: steps_offset (0 or 1) is added to the steps
  // of "ddimN"; without set_alpha_to_one the last step ends at the chain's first alpha_bar, not
  // at 1.
  std::int64_t steps_offset = 0;
  bool set_alpha_to_one = true;
};

// "ancestral", "ddim", "dpm-solver".
DKDM_API std::vector<std::string> sampler_names();

// Network calls for each sample.
DKDM_API std::int64_t sampling_steps(const GaussianDiffusion& process, const SamplerConfig& config);

// Samples first … first+count-1 of the run `seed`: f32 [count,C,H,W], clamped by nobody. Sample i
// depends on (seed, i) alone. The network is set to evaluation mode; no gradient. `after_step` is
// called with the number of chain steps done (may throw to stop). Throws Error naming the step when
// a value is not finite, ConfigError for dpm-solver on a respaced process (it chooses its own
// times) and for steps_offset on any but a "ddimN" whose N divides the chain.
DKDM_API at::Tensor sample(Denoiser& network, const GaussianDiffusion& process,
                           const SamplerConfig& config, const SampleShape& shape,
                           std::uint64_t seed, std::int64_t first, std::int64_t count,
                           const std::function<void(std::int64_t)>& after_step = {});

}  // namespace dkdm
