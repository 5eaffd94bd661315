// Value conventions of images.
#pragma once

#include <ATen/core/Tensor.h>

#include "dkdm/shape.hpp"

namespace dkdm {

// uint8 [N,C,H,W] -> f32 in [-1,1]: x / 127.5 - 1 (the reference's loader).
DKDM_API at::Tensor to_unit_range(const at::Tensor& images);

// f32 [N,C,H,W] -> uint8: (x + 1) * 127.5, clamped to [0,255] and truncated, as ADM and the paper's
// code write samples (EDM rounds instead; the rule shifts every pixel by half a level).
DKDM_API at::Tensor to_uint8(const at::Tensor& x);

}  // namespace dkdm
