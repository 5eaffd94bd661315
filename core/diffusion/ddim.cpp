// DDIM: Song et al. 2021, "Denoising Diffusion Implicit Models", Eq. 12. eta 0 is deterministic.
// With steps_offset or without set_alpha_to_one as latent diffusion's sampler walks it (Rombach et
// al. 2022, ldm/models/diffusion/ddim.py).
#include <ATen/ATen.h>

#include <cmath>

#include "diffusion/sampler_kind.hpp"
#include "plugin/call.hpp"

namespace dkdm::diffusion {
namespace {

double checked_eta(const SamplerConfig& config) {
  if (config.eta >= 0 && config.eta <= 1) return config.eta;
  throw ConfigError("sampler eta is " + std::to_string(config.eta) + ", expected 0 to 1");
}

class Ddim final : public SamplerRun {
 public:
  Ddim(const GaussianDiffusion& process, const SamplerConfig& config)
      : process_(process), eta_(checked_eta(config)), clip_(config.clip_denoised) {}

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

// One network call at step `t` of the whole chain and the move that follows it:
//   x <- coef_x0 x0 + coef_x x + sigma z
struct Move {
  std::int64_t t;
  double coef_x0, coef_x, sigma;
};

// Between levels of the whole chain that no respaced process has as neighbours.
class OffsetDdim final : public SamplerRun {
 public:
  OffsetDdim(const GaussianDiffusion& process, const SamplerConfig& config)
      : whole_(unspaced(process.config())), clip_(config.clip_denoised) {
    const double eta = checked_eta(config);
    check_offset(process.config().steps, process.config().respacing, config.steps_offset);
    const auto& alpha_bars = whole_.tables().alpha_bar;
    double prev = config.set_alpha_to_one ? 1 : alpha_bars.front();
    for (const std::int64_t kept : process.timestep_map()) {
      const std::int64_t t = kept + config.steps_offset;
      const double alpha_bar = alpha_bars[static_cast<std::size_t>(t)];
      const double sigma =
          eta * std::sqrt((1 - prev) / (1 - alpha_bar)) * std::sqrt(1 - alpha_bar / prev);
      // As GaussianDiffusion::ddim_step.
      const double coef_x =
          std::sqrt(std::max(0.0, 1 - prev - sigma * sigma)) / std::sqrt(1 - alpha_bar);
      moves_.push_back({t, std::sqrt(prev) - coef_x * std::sqrt(alpha_bar), coef_x, sigma});
      prev = alpha_bar;
    }
  }

  at::Tensor step(Denoiser& network, const at::Tensor& x, std::int64_t index,
                  const NoiseSource& noise) override {
    const auto place = moves_.size() - 1 - static_cast<std::size_t>(index);
    const Move& move = moves_[place];
    const at::Tensor t = at::full({x.size(0)}, move.t, x.options().dtype(at::kLong));
    const at::Tensor output = plugin::predict(network, x, t);
    const auto p = whole_.p_mean_variance(output, x, t, clip_);
    at::Tensor next = (p.pred_xstart * move.coef_x0).add_(x, move.coef_x);
    // Noise also in the last step, unless that ends at 1.
    if (move.sigma != 0) next.add_(noise(static_cast<std::uint32_t>(place)), move.sigma);
    return next;
  }

 private:
  static GaussianDiffusion unspaced(DiffusionConfig config) {
    config.respacing = "";
    return GaussianDiffusion(config);
  }

  const GaussianDiffusion whole_;
  const bool clip_;
  std::vector<Move> moves_;  // in the order of the chain
};

std::unique_ptr<SamplerRun> begin_ddim(const GaussianDiffusion& process,
                                       const SamplerConfig& config) {
  if (config.steps_offset == 0 && config.set_alpha_to_one) return begin<Ddim>(process, config);
  return begin<OffsetDdim>(process, config);
}

}  // namespace

void check_offset(std::int64_t steps, const std::string& respacing, std::int64_t offset) {
  if (offset == 0) return;
  if (offset != 1)
    throw ConfigError("steps_offset is " + std::to_string(offset) + ", expected 0 or 1");
  const auto kept = static_cast<std::int64_t>(respaced_steps(steps, respacing).size());
  if (respacing.starts_with("ddim") && steps % kept == 0 && kept < steps) return;
  throw ConfigError("steps_offset is 1 with respacing \"" + respacing +
                    "\", expected \"ddimN\", N a divisor of the chain's " + std::to_string(steps) +
                    " steps and below them");
}

SamplerKind ddim_sampler() {
  SamplerKind kind;
  kind.name = "ddim";
  kind.paper = "Song et al. 2021";
  kind.uses_eta = true;
  kind.uses_offset = true;
  kind.steps = [](const GaussianDiffusion& process, const SamplerConfig&) {
    return process.num_steps();
  };
  kind.begin = &begin_ddim;
  return kind;
}

}  // namespace dkdm::diffusion
