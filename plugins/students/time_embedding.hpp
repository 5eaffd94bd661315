// The two layers that most students have behind the sinusoid of the time.
#pragma once

#include <ATen/ATen.h>
#include <torch/nn/modules/linear.h>

#include "dkdm/nn.hpp"

namespace dkdm::students {

// silu(out(silu(in(code)))) -> [N,E], of code f32 [N,D] as `type`, the network's input: in f32
// whatever the network computes in.
inline at::Tensor time_embedding(const at::Tensor& code, at::ScalarType type,
                                 torch::nn::LinearImpl& in, torch::nn::LinearImpl& out) {
  const nn::FullPrecision full;
  return at::silu(out.forward(at::silu(in.forward(code.to(type)))));
}

}  // namespace dkdm::students
