// From images to the network's input, by the rule of each evaluator.
#pragma once

#include <ATen/core/Tensor.h>

namespace dkdm::metrics {

enum class Preprocessing {
  adm,             // TensorFlow 1's bilinear: source = d W/299, neighbour min(lo + 1, W - 1);
                   // (x - 128)/128
  pytorch_fid,     // bilinear about pixel centres, no antialiasing, of x/255; 2x - 1
  torch_fidelity,  // as adm: its resize repeats TensorFlow's to the bit
  clean,           // Pillow's bicubic with antialiasing, a = -1/2, a channel at a time in float,
                   // clipped to 0…255, not rounded; (x - 128)/128
};

// images uint8 [n,C,H,W], C = 1 (repeated) or 3 -> f32 [n,3,299,299], channels-last. An image's
// result does not depend on its batch. Throws std::invalid_argument for another shape or dtype.
at::Tensor preprocess(const at::Tensor& images, Preprocessing rule);

}  // namespace dkdm::metrics
