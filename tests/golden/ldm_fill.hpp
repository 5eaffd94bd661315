// The deterministic fill of the golden values of latent diffusion's networks: numbers in
// [-0.5,0.5) by a hash of 32 bits, the same in Python and C++.
//   h = 2654435761 (i + 1) + 40503 (j + 1);  h ^= h >> 15;  h *= 2246822519;  h ^= h >> 13
//   u(i, j) = h / 2^32 - 0.5
#pragma once

#include <ATen/ATen.h>
#include <torch/nn/module.h>

#include <cmath>
#include <cstdint>
#include <string>

namespace dkdm::golden {

inline double ldm_u(std::uint32_t i, std::uint32_t j) {
  std::uint32_t h = 2654435761U * (i + 1) + 40503U * (j + 1);
  h ^= h >> 15;
  h *= 2246822519U;
  h ^= h >> 13;
  return static_cast<double>(h) / 4294967296.0 - 0.5;
}

// f32 tensor of `shape`: scale * u(i, j) + offset at row-major element i.
inline at::Tensor ldm_fill(std::uint32_t j, at::IntArrayRef shape, double scale,
                           double offset = 0) {
  at::Tensor filled = at::empty(shape, at::kFloat);
  float* out = filled.mutable_data_ptr<float>();
  for (std::int64_t i = 0; i < filled.numel(); ++i)
    out[i] = static_cast<float>(scale * ldm_u(static_cast<std::uint32_t>(i), j) + offset);
  return filled;
}

// Every parameter j of `network`, in the order of registration: rank > 1 scaled to unit gain,
// weights of rank 1 around 1, biases around 0.
inline void ldm_fill_parameters(torch::nn::Module& network) {
  const at::NoGradGuard no_grad;
  std::uint32_t j = 0;
  for (const auto& entry : network.named_parameters()) {
    at::Tensor parameter = entry.value();
    const auto shape = parameter.sizes();
    const bool matrix = parameter.dim() > 1;
    const double fan_in = static_cast<double>(parameter.numel()) / static_cast<double>(shape[0]);
    parameter.copy_(ldm_fill(j++, shape, matrix ? std::sqrt(12 / fan_in) : 0.2,
                             !matrix && entry.key().ends_with("weight") ? 1 : 0));
  }
}

}  // namespace dkdm::golden
