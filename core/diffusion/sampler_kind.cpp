#include "diffusion/sampler_kind.hpp"

#include <ATen/ATen.h>

#include <boost/algorithm/string/join.hpp>

#include "plugin/call.hpp"

namespace dkdm {

diffusion::ChainStep diffusion::chain_step(Denoiser& network, const GaussianDiffusion& process,
                                           const at::Tensor& x, std::int64_t index,
                                           bool clip_denoised) {
  const std::int64_t step = process.num_steps() - 1 - index;
  const at::Tensor t = at::full({x.size(0)}, step, x.options().dtype(at::kLong));
  const at::Tensor output = plugin::predict(network, x, process.model_timesteps(t));
  return {step, t, process.p_mean_variance(output, x, t, clip_denoised)};
}

const std::vector<diffusion::SamplerKind>& diffusion::sampler_kinds() {
  static const std::vector<SamplerKind> kKinds{ancestral_sampler(), ddim_sampler(),
                                               dpm_solver_sampler()};
  return kKinds;
}

const diffusion::SamplerKind& diffusion::sampler_kind(const std::string& name) {
  for (const auto& kind : sampler_kinds())
    if (kind.name == name) return kind;
  throw ConfigError("sampler is \"" + name + "\", expected one of " +
                    boost::algorithm::join(sampler_names(), ", "));
}

std::vector<std::string> sampler_names() {
  std::vector<std::string> names;
  for (const auto& kind : diffusion::sampler_kinds()) names.push_back(kind.name);
  return names;
}

std::int64_t sampling_steps(const GaussianDiffusion& process, const SamplerConfig& config) {
  return diffusion::sampler_kind(config.sampler).steps(process, config);
}

}  // namespace dkdm
