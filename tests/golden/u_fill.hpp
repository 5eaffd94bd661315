// The deterministic fill u(i, j) of the golden values: numbers in [-1,1) without a generator, the
// same in Python and C++, so that a network or a loss can be compared with the authors' code.
//   u(i, j) = 2 ((7919 j + 104729 i + 12345) mod 1000003) / 1000003 - 1     in float64
#pragma once

#include <ATen/ATen.h>

#include <cmath>
#include <cstdint>
#include <string>

namespace dkdm::golden {

inline double u(std::int64_t i, std::int64_t j) {
  return 2.0 * (static_cast<double>((7919 * j + 104729 * i + 12345) % 1000003) / 1000003.0) - 1.0;
}

// f32 tensor of `shape`: scale * u(i, j) + offset at row-major element j, in float64 before the
// cast.
inline at::Tensor u_fill(std::int64_t i, at::IntArrayRef shape, double scale = 1.0,
                         double offset = 0.0) {
  at::Tensor filled = at::empty(shape, at::kFloat);
  float* out = filled.mutable_data_ptr<float>();
  for (std::int64_t j = 0; j < filled.numel(); ++j)
    out[j] = static_cast<float>(scale * u(i, j) + offset);
  return filled;
}

// Parameter i of a network, as tests/golden/fill.py: rank > 1 scaled to unit gain, weights of rank
// 1 around 1, biases around 0.
inline at::Tensor parameter_fill(std::int64_t i, const std::string& name, at::IntArrayRef shape) {
  if (shape.size() > 1) {
    const double gain = 3.0 * static_cast<double>(shape[0]);
    return u_fill(i, shape, std::sqrt(gain / static_cast<double>(c10::multiply_integers(shape))));
  }
  return u_fill(i, shape, 0.1, name.ends_with("weight") ? 1.0 : 0.0);
}

// The fill v(i, j) of make_latent.py: element i, row-major, of tensor j, in [-0.5, 0.5), by a hash
// in 32-bit arithmetic that wraps around. f64 scale * v + offset before the cast to f32.
inline at::Tensor v_fill(std::uint32_t j, at::IntArrayRef shape, double scale = 1.0,
                         double offset = 0.0) {
  at::Tensor filled = at::empty(shape, at::kFloat);
  float* out = filled.mutable_data_ptr<float>();
  for (std::int64_t i = 0; i < filled.numel(); ++i) {
    std::uint32_t h = 2654435761u * static_cast<std::uint32_t>(i + 1) + 40503u * (j + 1);
    h ^= h >> 15;
    h *= 2246822519u;
    h ^= h >> 13;
    out[i] = static_cast<float>(scale * (h / 4294967296.0 - 0.5) + offset);
  }
  return filled;
}

// Parameter j of make_latent.py's networks: by the rule of parameter_fill.
inline at::Tensor latent_parameter_fill(std::uint32_t j, const std::string& name,
                                        at::IntArrayRef shape) {
  if (shape.size() > 1) {
    const double gain = 12.0 * static_cast<double>(shape[0]);
    return v_fill(j, shape, std::sqrt(gain / static_cast<double>(c10::multiply_integers(shape))));
  }
  return v_fill(j, shape, 0.2, name.ends_with("weight") ? 1.0 : 0.0);
}

}  // namespace dkdm::golden
