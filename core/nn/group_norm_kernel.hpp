// The loops of dkdm::group_norm on the CPU: f32 values, sums in f64. Plain C++ without LibTorch,
// and without multiplications fused into additions, so every processor gives the same bits.
// Channels-last images are [pixels, C] in memory, channels-first ones [C, pixels].
//
// A value minus its group's mean is taken as (x - mean) - rest, mean and rest being f32 and their
// sum the mean in f64: exact where x is near the mean, however far that is from zero.
#pragma once

#include <cstdint>

namespace dkdm::nn {

// What a channel's values meet: ((x - mean) - rest) * scale + offset.
struct ChannelMap {
  float *mean, *rest, *scale, *offset;  // [C] each
};

// Adds each channel's sum of x and of x^2 to `sums` [C] and `squares` [C].
void add_moments_last(const float* x, std::int64_t pixels, std::int64_t channels, double* sums,
                      double* squares);
// Sum of x and of x^2 over `count` values.
void moments(const float* x, std::int64_t count, double& sum, double& square);

// y = ((x - mean) - rest) * scale + offset, by channel.
void normalise_last(const float* x, float* y, std::int64_t pixels, std::int64_t channels,
                    const ChannelMap& map);
void normalise(const float* x, float* y, std::int64_t count, float mean, float rest, float scale,
               float offset);

// Adds each channel's sum of dy, and of dy * (x - mean - rest), to `sums` [C] and `products` [C].
void add_products_last(const float* dy, const float* x, std::int64_t pixels, std::int64_t channels,
                       const ChannelMap& map, double* sums, double* products);
void products(const float* dy, const float* x, std::int64_t count, float mean, float rest,
              double& sum, double& product);

// dx = dy * scale + (x - mean - rest) * slope + offset, by channel; `slope` [C].
void differentiate_last(const float* dy, const float* x, float* dx, std::int64_t pixels,
                        std::int64_t channels, const ChannelMap& map, const float* slope);
void differentiate(const float* dy, const float* x, float* dx, std::int64_t count, float mean,
                   float rest, float scale, float slope, float offset);

}  // namespace dkdm::nn
