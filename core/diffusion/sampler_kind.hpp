// What a sampler is to the rest of the program. One sampler is one file here, and a line in
// sampler_kind.cpp.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "dkdm/sampler.hpp"

namespace dkdm::diffusion {

// Standard normal noise [N,C,H,W] for one step; the same number gives the same noise.
using NoiseSource = std::function<at::Tensor(std::uint32_t)>;

// One batch on its way from noise to images.
class SamplerRun {
 public:
  virtual ~SamplerRun() = default;
  // x [N,C,H,W] f32 after step `index` (0, 1, … in order) of the sampler's steps.
  virtual at::Tensor step(Denoiser& network, const at::Tensor& x, std::int64_t index,
                          const NoiseSource& noise) = 0;
};

// What the network says at one step of the process's chain: those that walk it begin with this.
struct ChainStep {
  std::int64_t step;  // T-1, …, 0
  at::Tensor t;       // int64 [N], the same in each
  Distribution p;
};
ChainStep chain_step(Denoiser& network, const GaussianDiffusion& process, const at::Tensor& x,
                     std::int64_t index, bool clip_denoised);

struct SamplerKind {
  std::string name;   // [sample] sampler
  std::string paper;  // where it is from, for a person
  // Those of [sample] that its images depend on, besides clip_denoised.
  bool uses_eta = false, uses_solver_steps = false;
  bool uses_offset = false;  // steps_offset and set_alpha_to_one
  // Whether it walks the steps of a respaced process; else it chooses its own times out of the
  // whole chain.
  bool uses_respacing = true;

  // Network calls for each sample.
  std::int64_t (*steps)(const GaussianDiffusion& process, const SamplerConfig& config);
  // References outlive the run. Throws ConfigError for a value that it cannot use.
  std::unique_ptr<SamplerRun> (*begin)(const GaussianDiffusion& process,
                                       const SamplerConfig& config);
};

// SamplerKind::begin of the class Run.
template <class Run>
std::unique_ptr<SamplerRun> begin(const GaussianDiffusion& process, const SamplerConfig& config) {
  return std::make_unique<Run>(process, config);
}

// Throws ConfigError unless `offset` is 0, or 1 and `respacing` keeps 0, c, 2c, … of a chain of
// `steps`, c a divisor of it above 1.
void check_offset(std::int64_t steps, const std::string& respacing, std::int64_t offset);

SamplerKind ancestral_sampler();
SamplerKind ddim_sampler();
SamplerKind dpm_solver_sampler();

const std::vector<SamplerKind>& sampler_kinds();
// Throws ConfigError naming those there are.
DKDM_API const SamplerKind& sampler_kind(const std::string& name);

}  // namespace dkdm::diffusion
