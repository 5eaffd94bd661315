// The teacher's denoising step and the walk from noise to random states.
#include <cstdint>
#include <functional>
#include <vector>

#include <ATen/ATen.h>

#include "dkdm/denoising.hpp"
#include "dkdm/device.hpp"
#include "dkdm/diffusion.hpp"
#include "dkdm/random.hpp"
#include "plugin/call.hpp"

namespace dkdm {

TeacherStep teacher_step(Denoiser& teacher, const GaussianDiffusion& chain, const at::Tensor& x_t,
                         const at::Tensor& t, const at::Tensor& z, TeacherClip clip) {
  // Not InferenceMode: the student's loss keeps these tensors for its backward pass.
  const at::NoGradGuard no_grad;
  if (teacher.is_training()) teacher.eval();
  TeacherStep step;
  const at::Tensor output = plugin::predict(teacher, x_t, chain.model_timesteps(t));
  step.p = chain.p_mean_variance(output, x_t, t, clip != TeacherClip::none);
  step.x_prev = chain.ancestral_step(step.p, t, z).contiguous(at::MemoryFormat::ChannelsLast);
  if (clip == TeacherClip::chain) step.p = chain.p_mean_variance(output, x_t, t, false);
  return step;
}

at::Tensor random_states(std::uint64_t seed, std::int64_t rows, std::int64_t chain_steps,
                         FirstStates range) {
  if (chain_steps < 2) {
    throw ConfigError(
        "a chain of one step has no state between noise and image: "
        "chain must keep at least 2 steps");
  }
  const std::int64_t last = range == FirstStates::all ? chain_steps : chain_steps - 1;
  return Random(seed, Stream::pool_state).integers(0, 0, rows, last) + 1;
}

at::Tensor shuffle_denoise(Denoiser& teacher, const GaussianDiffusion& chain,
                           const SampleShape& shape, std::uint64_t seed, const at::Tensor& rows,
                           const at::Tensor& states,
                           const std::function<void(std::int64_t)>& after_forward,
                           TeacherClip clip) {
  // Which rows walk is known on the host; what they are is where the teacher is.
  const at::Device device = device_of(teacher);
  const at::Tensor samples = sent_to(rows, device);
  const Random noise(seed, Stream::pool_noise);
  at::Tensor x = Random(seed, Stream::pool_start)
                     .normal(0, samples, shape.sizes())
                     .contiguous(at::MemoryFormat::ChannelsLast);
  const auto last = states.min().item<std::int64_t>();
  for (std::int64_t s = chain.num_steps(); s > last; --s) {
    const at::Tensor walking = sent_to(at::nonzero(states < s).squeeze(1), device);
    const std::int64_t count = walking.size(0);
    const at::Tensor x_t = x.index_select(0, walking).contiguous(at::MemoryFormat::ChannelsLast);
    const at::Tensor z = noise.normal(static_cast<std::uint32_t>(s),
                                      samples.index_select(0, walking), shape.sizes());
    const at::Tensor t = at::full({count}, s - 1, samples.options());
    x.index_copy_(0, walking, teacher_step(teacher, chain, x_t, t, z, clip).x_prev);
    after_forward(count);
  }
  return x;
}

}  // namespace dkdm
