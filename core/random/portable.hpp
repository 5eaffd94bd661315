// The bulk generators of fill.hpp by LibTorch's operators: the same bits on any device with f64,
// made there instead of brought there. Every operator rounds for itself, so no device can fuse a
// multiplication into an addition. Some 200 operators a call, so much slower than the loops where
// both can run.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "dkdm/random.hpp"
#include "random/step.hpp"

namespace dkdm::random {

// Whether numbers are made on `device` itself; for others on the CPU and moved. Metal has no f64.
inline bool makes_numbers(at::Device device) { return !device.is_cpu() && !device.is_mps(); }

struct Key {
  std::uint32_t word0, word1;
};

// Philox's key of a seed and a stream.
DKDM_API Key key_of(std::uint64_t seed, Stream stream);

// Standard normals f32 [n, length] on the device of `samples` (int64 [n]): row r is fill_normal's
// of sample samples[r] at `step`.
DKDM_API at::Tensor portable_normal(const Key& key, const Step& step, const at::Tensor& samples,
                                    std::int64_t length);

// Dropout factors f32 [rows, length] on `device`: row r is fill_mask's of sample first + r of
// `layer` at `step`.
DKDM_API at::Tensor portable_mask(const Key& key, const Step& step, std::uint32_t layer,
                                  std::int64_t first, std::int64_t rows, std::int64_t length,
                                  std::uint32_t threshold, float scale, at::Device device);

// Uniform f64 [count] in [0,1) on `device`: those of samples first … first + count - 1 at `step`.
DKDM_API at::Tensor portable_uniform(const Key& key, const Step& step, std::int64_t first,
                                     std::int64_t count, at::Device device);

// Standard normals f32 [n, shape…], those of samples `index` (int64 [n]), where `index` is.
DKDM_API at::Tensor normal(const Key& key, const Step& step, const at::Tensor& index,
                           at::IntArrayRef shape);

// Random(seed, stream).uniform(step, first, count) on `device`.
DKDM_API at::Tensor uniform(std::uint64_t seed, Stream stream, const Step& step, std::int64_t first,
                            std::int64_t count, at::Device device);

// Random(seed, stream).dropout_mask(step, layer, first, sizes, p), its bits and memory order, on
// `device`. Throws as that does.
DKDM_API at::Tensor dropout_mask(std::uint64_t seed, Stream stream, const Step& step,
                                 std::uint32_t layer, std::int64_t first, at::IntArrayRef sizes,
                                 double p, at::Device device);

}  // namespace dkdm::random
