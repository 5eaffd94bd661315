// Sampling: the chain from noise to images, ancestral (Ho et al. 2020) or DDIM (Song et al. 2021), and
// DPM-Solver++ (dpm_solver.hpp).
#include "dkdm/sampler.hpp"

#include <ATen/ATen.h>

#include "diffusion/dpm_solver.hpp"
#include "dkdm/random.hpp"
#include "plugin/call.hpp"

namespace dkdm {
namespace {

constexpr std::int64_t kCheckEvery = 16;  // steps between two looks at the finiteness record

void check(const SamplerConfig& config, const GaussianDiffusion& process) {
  const bool solver = config.sampler == "dpm-solver";
  if (!solver && config.sampler != "ancestral" && config.sampler != "ddim") {
    throw ConfigError("sampler is \"" + config.sampler +
                      "\", expected \"ancestral\", \"ddim\" or \"dpm-solver\"");
  }
  if (solver && config.solver_steps < 2) {
    throw ConfigError("solver_steps is " + std::to_string(config.solver_steps) +
                      ", expected at least 2");
  }
  if (solver && process.num_steps() != process.config().steps) {
    throw ConfigError("dpm-solver takes its own times out of the whole chain, but respacing is \"" +
                      process.config().respacing + "\"; expected \"\"");
  }
  if (!(config.eta >= 0 && config.eta <= 1)) {
    throw ConfigError("sampler eta is " + std::to_string(config.eta) + ", expected 0 to 1");
  }
}

at::Device device_of(const Denoiser& network) {
  const auto parameters = network.parameters();
  return parameters.empty() ? at::Device(at::kCPU) : parameters.front().device();
}

// Remembers per step whether all values were finite, on the device: looking at it waits for the
// device, so that is done every few steps, and the step at fault is still named exactly.
class FiniteRecord {
 public:
  FiniteRecord(std::int64_t first, std::int64_t count, std::int64_t steps)
      : samples_(std::to_string(first) + " to " + std::to_string(first + count - 1)),
        steps_(steps) {}

  void add(const at::Tensor& x) {
    sums_.push_back(x.sum());  // not finite if any value is not
    ++done_;
    if (done_ % kCheckEvery == 0 || done_ == steps_) look();
  }

 private:
  void look() {
    const at::Tensor finite = at::stack(sums_).isfinite().to(at::kCPU);
    const auto recorded = static_cast<std::int64_t>(sums_.size());
    for (std::int64_t i = 0; i < recorded; ++i) {
      if (finite.const_data_ptr<bool>()[i]) continue;
      throw Error("sample: a value is not finite after step " +
                  std::to_string(done_ - recorded + i + 1) + " of " + std::to_string(steps_) +
                  " (samples " + samples_ + "); the network or its weights are at fault");
    }
    sums_.clear();
  }

  std::string samples_;
  std::int64_t steps_, done_ = 0;
  std::vector<at::Tensor> sums_;
};

using Draw = std::function<at::Tensor(std::uint32_t)>;    // noise [N,C,S,S] of a chain step
using StepDone = std::function<void(const at::Tensor&)>;  // gets x after each step

at::Tensor walk_chain(Denoiser& network, const GaussianDiffusion& process,
                      const SamplerConfig& config, at::Tensor x, const Draw& draw_noise,
                      const StepDone& step_done) {
  const bool ancestral = config.sampler == "ancestral";
  for (std::int64_t step = process.num_steps() - 1; step >= 0; --step) {
    const at::Tensor t = at::full({x.size(0)}, step, x.options().dtype(at::kLong));
    const at::Tensor output = plugin::predict(network, x, process.network_time(t));
    const Distribution p = process.p_mean_variance(output, x, t, config.clip_denoised);
    // The last step adds no noise, and neither does DDIM with eta 0: none is drawn.
    at::Tensor z;
    if (step > 0 && (ancestral || config.eta > 0)) z = draw_noise(static_cast<std::uint32_t>(step));
    if (!ancestral) {
      x = process.ddim_step(p, x, t, z.defined() ? config.eta : 0, z);
    } else {
      x = z.defined() ? process.ancestral_step(p, t, z) : p.mean;
    }
    step_done(x);
  }
  return x;
}

at::Tensor solve(Denoiser& network, const GaussianDiffusion& process, const SamplerConfig& config,
                 at::Tensor x, const StepDone& step_done) {
  at::Tensor earlier;
  for (const auto& move : diffusion::solver_steps(process, config.solver_steps)) {
    const at::Tensor t = at::full({x.size(0)}, move.time, x.options());
    const at::Tensor eps = plugin::predict(network, x, t).narrow(1, 0, x.size(1)).to(at::kFloat);
    at::Tensor x0 = (x / move.alpha).sub_(eps, move.sigma / move.alpha);
    if (config.clip_denoised) x0 = diffusion::dynamic_threshold(x0);
    x = (x * move.of_x).add_(x0, move.of_x0);
    if (move.of_earlier != 0) x.add_(earlier, move.of_earlier);
    earlier = x0;
    step_done(x);
  }
  return x;
}

}  // namespace

std::int64_t sampling_steps(const GaussianDiffusion& process, const SamplerConfig& config) {
  return config.sampler == "dpm-solver" ? config.solver_steps : process.num_steps();
}

at::Tensor sample(Denoiser& network, const GaussianDiffusion& process, const SamplerConfig& config,
                  const ImageSpec& spec, std::uint64_t seed, std::int64_t first,
                  std::int64_t count, const std::function<void(std::int64_t)>& after_step) {
  check(config, process);
  const std::vector<std::int64_t> shape{spec.channels, spec.size, spec.size};
  if (count <= 0) return at::empty({0, spec.channels, spec.size, spec.size});
  network.eval();
  // Not InferenceMode: what a network caches while it samples may later take part in training.
  const at::NoGradGuard no_grad;
  const at::Device device = device_of(network);
  const Random start(seed, Stream::sample_start), noise(seed, Stream::sample_noise);
  const auto draw = [&](const Random& random, std::uint32_t step) {
    return random.normal(step, first, count, shape)
        .to(device)
        .contiguous(at::MemoryFormat::ChannelsLast);
  };

  FiniteRecord finite(first, count, sampling_steps(process, config));
  std::int64_t done = 0;
  const StepDone step_done = [&](const at::Tensor& x) {
    finite.add(x);
    if (after_step) after_step(++done);
  };
  const at::Tensor x_T = draw(start, 0);
  const at::Tensor x =
      config.sampler == "dpm-solver"
          ? solve(network, process, config, x_T, step_done)
          : walk_chain(network, process, config, x_T,
                       [&](std::uint32_t step) { return draw(noise, step); }, step_done);
  return x.contiguous();
}

}  // namespace dkdm
