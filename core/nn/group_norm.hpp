// The parts of dkdm::group_norm (dkdm/nn.hpp) behind its operators. With d = x - mean,
// r = 1 / sqrt(variance + eps), M values a group and sums over a group of a sample:
//   y = d r weight + bias
//   dx = r weight dy - d r^3 sum(weight dy d) / M - r sum(weight dy) / M
//   dweight = sum_n r sum(dy d), dbias = sum_n sum(dy), the inner sums over a channel.
#pragma once

#include <ATen/ATen.h>

#include <array>
#include <cstdint>
#include <optional>
#include <tuple>

namespace dkdm::nn::group_normalisation {

using at::Tensor;
using Optional = std::optional<Tensor>;
// y, and for the gradient mean, rest and r [N,groups]: mean + rest is the mean in twice the
// precision.
using Normalised = std::tuple<Tensor, Tensor, Tensor, Tensor>;
using Gradients =
    std::tuple<Tensor, Tensor, Tensor>;  // of x, weight, bias; undefined where not wanted

inline bool given(const Optional& tensor) { return tensor.has_value() && tensor->defined(); }

// Throws ConfigError for what cannot be normalised so.
void check(const Tensor& x, std::int64_t groups, const Optional& weight, const Optional& bias);

// By operators of LibTorch: any device, any type; the first is differentiable.
Normalised composite(const Tensor& x, std::int64_t groups, const Optional& weight,
                     const Optional& bias, double eps);
Gradients composite_backward(const Tensor& dy, const Tensor& x, const Tensor& mean,
                             const Tensor& rest, const Tensor& r, const Optional& weight,
                             std::int64_t groups, std::array<bool, 3> wanted);

// By our own loops for f32 on the CPU; anything else by the composite.
Normalised kernel(const Tensor& x, std::int64_t groups, const Optional& weight,
                  const Optional& bias, double eps);
Gradients kernel_backward(const Tensor& dy, const Tensor& x, const Tensor& mean, const Tensor& rest,
                          const Tensor& r, const Optional& weight, std::int64_t groups,
                          std::array<bool, 3> wanted);

}  // namespace dkdm::nn::group_normalisation
