// This file's flags are in core/CMakeLists.txt: loops for the vectoriser, the same bits on every
// machine.
#include "nn/group_norm_kernel.hpp"

#include <algorithm>

// Chosen when the library is loaded.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define DKDM_VECTOR_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define DKDM_VECTOR_CLONES
#endif
#define DKDM_INLINE inline __attribute__((always_inline))

namespace dkdm::nn {
namespace {

constexpr std::int64_t kLanes = 16;  // partial sums of a run of values; also channels at a time

// Vectors of a fixed length on every target: wider than its registers they are several of them.
using Floats [[gnu::vector_size(kLanes * sizeof(float)), gnu::aligned(4)]] = float;
using Doubles [[gnu::vector_size(kLanes * sizeof(double))]] = double;

DKDM_INLINE void load(Floats& value, const float* from) {
  value = *reinterpret_cast<const Floats*>(from);
}
DKDM_INLINE void store(float* to, const Floats& value) { *reinterpret_cast<Floats*>(to) = value; }
DKDM_INLINE void add(double* to, const Doubles& value) {
  for (std::int64_t i = 0; i < kLanes; ++i) to[i] += value[i];
}
DKDM_INLINE double total(const Doubles& value) {
  double sum = 0;
  for (std::int64_t i = 0; i < kLanes; ++i) sum += value[i];
  return sum;
}

}  // namespace

DKDM_VECTOR_CLONES void add_moments_last(const float* x, std::int64_t pixels, std::int64_t channels,
                                         double* sums, double* squares) {
  std::int64_t c = 0;
  for (; c + kLanes <= channels; c += kLanes) {
    Doubles sum{}, square{};
    for (std::int64_t p = 0; p < pixels; ++p) {
      Floats value;
      load(value, x + p * channels + c);
      const Doubles exact = __builtin_convertvector(value, Doubles);
      sum += exact;
      square += exact * exact;
    }
    add(sums + c, sum);
    add(squares + c, square);
  }
  for (; c < channels; ++c) {
    double sum = 0, square = 0;
    for (std::int64_t p = 0; p < pixels; ++p) {
      const double exact = x[p * channels + c];
      sum += exact;
      square += exact * exact;
    }
    sums[c] += sum;
    squares[c] += square;
  }
}

DKDM_VECTOR_CLONES void moments(const float* x, std::int64_t count, double& sum, double& square) {
  Doubles sums{}, squares{};
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    Floats value;
    load(value, x + i);
    const Doubles exact = __builtin_convertvector(value, Doubles);
    sums += exact;
    squares += exact * exact;
  }
  sum = total(sums), square = total(squares);
  for (; i < count; ++i) {
    const double exact = x[i];
    sum += exact;
    square += exact * exact;
  }
}

DKDM_VECTOR_CLONES void normalise_last(const float* __restrict x, float* __restrict y,
                                       std::int64_t pixels, std::int64_t channels,
                                       const ChannelMap& map) {
  const float* __restrict mean = map.mean, * __restrict rest = map.rest, * __restrict scale = map.scale, * __restrict offset = map.offset;
  for (std::int64_t p = 0; p < pixels; ++p, x += channels, y += channels) {
    for (std::int64_t c = 0; c < channels; ++c)
      y[c] = ((x[c] - mean[c]) - rest[c]) * scale[c] + offset[c];
  }
}

DKDM_VECTOR_CLONES void normalise(const float* __restrict x, float* __restrict y,
                                  std::int64_t count, float mean, float rest, float scale,
                                  float offset) {
  for (std::int64_t i = 0; i < count; ++i) y[i] = ((x[i] - mean) - rest) * scale + offset;
}

DKDM_VECTOR_CLONES void add_products_last(const float* dy, const float* x, std::int64_t pixels,
                                          std::int64_t channels, const ChannelMap& map,
                                          double* sums, double* products) {
  std::int64_t c = 0;
  for (; c + kLanes <= channels; c += kLanes) {
    Doubles sum{}, product{};
    Floats mean, rest;
    load(mean, map.mean + c);
    load(rest, map.rest + c);
    for (std::int64_t p = 0; p < pixels; ++p) {
      Floats value, slope;
      load(value, x + p * channels + c);
      load(slope, dy + p * channels + c);
      value = (value - mean) - rest;
      const Doubles exact = __builtin_convertvector(slope, Doubles);
      sum += exact;
      product += exact * __builtin_convertvector(value, Doubles);
    }
    add(sums + c, sum);
    add(products + c, product);
  }
  for (; c < channels; ++c) {
    double sum = 0, product = 0;
    for (std::int64_t p = 0; p < pixels; ++p) {
      const double exact = dy[p * channels + c];
      sum += exact;
      product += exact * double((x[p * channels + c] - map.mean[c]) - map.rest[c]);
    }
    sums[c] += sum;
    products[c] += product;
  }
}

DKDM_VECTOR_CLONES void products(const float* dy, const float* x, std::int64_t count, float mean,
                                 float rest, double& sum, double& product) {
  Doubles sums{}, all{};
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    Floats value, slope;
    load(value, x + i);
    load(slope, dy + i);
    value = (value - mean) - rest;
    const Doubles exact = __builtin_convertvector(slope, Doubles);
    sums += exact;
    all += exact * __builtin_convertvector(value, Doubles);
  }
  sum = total(sums), product = total(all);
  for (; i < count; ++i) {
    const double exact = dy[i];
    sum += exact;
    product += exact * double((x[i] - mean) - rest);
  }
}

DKDM_VECTOR_CLONES void differentiate_last(const float* __restrict dy, const float* __restrict x,
                                           float* __restrict dx, std::int64_t pixels,
                                           std::int64_t channels, const ChannelMap& map,
                                           const float* __restrict slope) {
  const float* __restrict mean = map.mean, * __restrict rest = map.rest, * __restrict scale = map.scale, * __restrict offset = map.offset;
  for (std::int64_t p = 0; p < pixels; ++p, dy += channels, x += channels, dx += channels) {
    for (std::int64_t c = 0; c < channels; ++c)
      dx[c] = dy[c] * scale[c] + ((x[c] - mean[c]) - rest[c]) * slope[c] + offset[c];
  }
}

DKDM_VECTOR_CLONES void differentiate(const float* __restrict dy, const float* __restrict x,
                                      float* __restrict dx, std::int64_t count, float mean,
                                      float rest, float scale, float slope, float offset) {
  for (std::int64_t i = 0; i < count; ++i)
    dx[i] = dy[i] * scale + ((x[i] - mean) - rest) * slope + offset;
}

}  // namespace dkdm::nn
