// What a network's forward holds of its layers, as LibTorch's allocators count it.
#pragma once

#include <cstdint>
#include <optional>

#include "device/precision.hpp"
#include "dkdm/denoiser.hpp"

namespace dkdm::run {

// Bytes. fixed: whatever the batch, such as weights rounded to 16 bits. NaN = unknown.
struct Activations {
  double fixed = 0, image = 0;
  double of(std::int64_t images) const { return fixed + image * static_cast<double>(images); }
};

// evaluation: the most at once, without gradient. training: what is kept for the backward, the
// layers of dkdm/nn.hpp drawing as they do then.
enum class Pass { evaluation, training };

// Of forwards of `images` and of twice as many, in the memory of the CPU; nothing where one would
// take more than `bytes`. Leaves the network in its mode.
DKDM_API std::optional<Activations> activations_on_cpu(Denoiser& network, const SampleShape& shape,
                                                       std::int64_t images, Pass pass,
                                                       device::Precision precision, double bytes);
// The same of a network on the meta device (nn/meta.hpp), without memory or arithmetic. Throws what
// the network throws where it calls an operator that has no shapes there.
DKDM_API Activations activations_on_meta(Denoiser& network, const SampleShape& shape,
                                         std::int64_t images, Pass pass,
                                         device::Precision precision);

}  // namespace dkdm::run
