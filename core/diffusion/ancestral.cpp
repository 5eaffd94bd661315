// Ancestral sampling: Ho et al. 2020, "Denoising Diffusion Probabilistic Models", Algorithm 2.
#include "diffusion/sampler_kind.hpp"

namespace dkdm::diffusion {
namespace {

class Ancestral final : public SamplerRun {
 public:
  Ancestral(const GaussianDiffusion& process, const SamplerConfig& config)
      : process_(process), clip_(config.clip_denoised) {}

  at::Tensor step(Denoiser& network, const at::Tensor& x, std::int64_t index,
                  const NoiseSource& noise) override {
    const auto [step, t, p] = chain_step(network, process_, x, index, clip_);
    // The last step adds no noise: none is drawn.
    return step > 0 ? process_.ancestral_step(p, t, noise(static_cast<std::uint32_t>(step)))
                    : p.mean;
  }

 private:
  const GaussianDiffusion& process_;
  const bool clip_;
};

}  // namespace

SamplerKind ancestral_sampler() {
  SamplerKind kind;
  kind.name = "ancestral";
  kind.paper = "DDPM, Ho et al. 2020";
  kind.steps = [](const GaussianDiffusion& process, const SamplerConfig&) {
    return process.num_steps();
  };
  kind.begin = &begin<Ancestral>;
  return kind;
}

}  // namespace dkdm::diffusion
