// From noise to images, by any of the samplers (sampler_kind.hpp).
#include "dkdm/sampler.hpp"

#include <ATen/ATen.h>

#include "diffusion/sampler_kind.hpp"
#include "dkdm/device.hpp"
#include "dkdm/random.hpp"

namespace dkdm {
namespace {

constexpr std::int64_t kCheckEvery = 16;  // steps between two looks at the finiteness record

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

}  // namespace

at::Tensor sample(Denoiser& network, const GaussianDiffusion& process, const SamplerConfig& config,
                  const SampleShape& shape, std::uint64_t seed, std::int64_t first,
                  std::int64_t count, const std::function<void(std::int64_t)>& after_step) {
  const auto& kind = diffusion::sampler_kind(config.sampler);
  const auto run = kind.begin(process, config);
  if (count <= 0) return at::empty(shape.batch(0));
  network.eval();
  // Not InferenceMode: what a network caches while it samples may later take part in training.
  const at::NoGradGuard no_grad;
  const at::Device device = device_of(network);
  const Random start(seed, Stream::sample_start), noise(seed, Stream::sample_noise);
  const at::Tensor samples =
      at::arange(first, first + count, at::TensorOptions().dtype(at::kLong).device(device));
  const auto draw = [&](const Random& random, std::uint32_t step) {
    return random.normal(step, samples, shape.sizes()).contiguous(at::MemoryFormat::ChannelsLast);
  };

  const diffusion::NoiseSource step_noise = [&](std::uint32_t step) { return draw(noise, step); };
  const std::int64_t steps = kind.steps(process, config);
  FiniteRecord finite(first, count, steps);
  at::Tensor x = draw(start, 0);
  for (std::int64_t index = 0; index < steps; ++index) {
    x = run->step(network, x, index, step_noise);
    finite.add(x);
    if (after_step) after_step(index + 1);
  }
  return x.contiguous();
}

}  // namespace dkdm
