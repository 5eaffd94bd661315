#include "run/activations.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "dkdm/nn.hpp"
#include "nn/memory_limit.hpp"
#include "nn/meta.hpp"
#include "plugin/call.hpp"

namespace dkdm::run {
namespace {

class InMode {
 public:
  InMode(Denoiser& network, Pass pass) : network_(network), before_(network.is_training()) {
    network.train(pass == Pass::training);
    if (pass == Pass::training) nn::seed_layers(network, /*seed=*/0, /*step=*/0);
  }
  ~InMode() { network_.train(before_); }
  InMode(const InMode&) = delete;
  InMode& operator=(const InMode&) = delete;

 private:
  Denoiser& network_;
  bool before_;
};

// One forward, which keeps what its backward would need for as long as its result is there.
at::Tensor forward(Denoiser& network, const SampleShape& shape, std::int64_t images, Pass pass,
                   device::Precision precision, at::Device device) {
  const at::AutoGradMode with_grad(pass == Pass::training);
  const auto there = at::TensorOptions().device(device);
  const auto x_t = at::zeros(shape.batch(images), there).contiguous(at::MemoryFormat::ChannelsLast);
  const auto t = at::zeros({images}, there.dtype(at::kLong));
  // TF32 is of arithmetic, not of memory. The meta device follows the CPU's precision.
  const device::PrecisionScope scope(
      precision == device::Precision::tf32 ? device::Precision::fp32 : precision, at::kCPU);
  return plugin::call(plugin::name_of(&network), "forward", plugin::Care::numbers,
                      [&] { return network.forward(x_t, t); });
}

double bytes_of(const nn::Allocated& allocated, Pass pass) {
  return pass == Pass::training ? allocated.alive : allocated.most;
}

// The line through two forwards.
Activations through(double once, double twice, std::int64_t images) {
  const double image = std::max(0.0, twice - once) / static_cast<double>(images);
  return {std::max(0.0, once - image * static_cast<double>(images)), image};
}

}  // namespace

std::optional<Activations> activations_on_cpu(Denoiser& network, const SampleShape& shape,
                                              std::int64_t images, Pass pass,
                                              device::Precision precision, double bytes) {
  const InMode mode(network, pass);
  at::Tensor output;
  const auto counted = [&](std::int64_t count) {
    output.reset();  // before the count begins
    return nn::within_bytes(
        [&] { output = forward(network, shape, count, pass, precision, at::kCPU); }, bytes);
  };
  const auto once = counted(images);
  const auto twice = once ? counted(2 * images) : std::nullopt;
  if (!twice) return std::nullopt;
  return through(bytes_of(*once, pass), bytes_of(*twice, pass), images);
}

Activations activations_on_meta(Denoiser& network, const SampleShape& shape, std::int64_t images,
                                Pass pass, device::Precision precision) {
  const InMode mode(network, pass);
  const auto counted = [&](std::int64_t count) {
    at::Tensor output;
    const auto allocated = nn::counted_on_meta(
        [&] { output = forward(network, shape, count, pass, precision, at::kMeta); });
    return bytes_of(allocated, pass);
  };
  return through(counted(images), counted(2 * images), images);
}

}  // namespace dkdm::run
