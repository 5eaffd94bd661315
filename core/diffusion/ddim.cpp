// DDIM: Song et al. 2021, "Denoising Diffusion Implicit Models", Eq. 12. eta 0 is deterministic.
#include "diffusion/sampler_kind.hpp"

namespace dkdm::diffusion {
namespace {

class Ddim final : public SamplerRun {
 public:
  Ddim(const GaussianDiffusion& process, const SamplerConfig& config)
      : process_(process), eta_(config.eta), clip_(config.clip_denoised) {
    if (!(eta_ >= 0 && eta_ <= 1))
      throw ConfigError("sampler eta is " + std::to_string(eta_) + ", expected 0 to 1");
  }

  at::Tensor step(Denoiser& network, const at::Tensor& x, std::int64_t index,
                  const NoiseSource& noise) override {
    const auto [step, t, p] = chain_step(network, process_, x, index, clip_);
    // The last step adds no noise, and neither does eta 0: none is drawn.
    if (step == 0 || eta_ == 0) return process_.ddim_step(p, x, t, 0, {});
    return process_.ddim_step(p, x, t, eta_, noise(static_cast<std::uint32_t>(step)));
  }

 private:
  const GaussianDiffusion& process_;
  const double eta_;
  const bool clip_;
};

}  // namespace

SamplerKind ddim_sampler() {
  SamplerKind kind;
  kind.name = "ddim";
  kind.paper = "Song et al. 2021";
  kind.uses_eta = true;
  kind.steps = [](const GaussianDiffusion& process, const SamplerConfig&) {
    return process.num_steps();
  };
  kind.begin = &begin<Ddim>;
  return kind;
}

}  // namespace dkdm::diffusion
