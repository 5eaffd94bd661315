// Every rule is separable: rows are mixed first, then columns. Weights of a rule are made once a
// call; a row of the result is a unit of work.
#include "metrics/preprocess.hpp"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <c10/util/StringUtil.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "metrics/inception.hpp"

namespace dkdm::metrics {
namespace {

constexpr std::int64_t kSide = Inception::kImageSize;
constexpr std::int64_t kLanes = 4;         // three channels and padding: one vector register
constexpr std::int64_t kRowsPerTask = 32;  // below this, waking a thread costs more

// Along one axis: result d = sum over k of weight(d, k) * source(first[d] + k), k < count.
struct Taps {
  std::int64_t count;
  std::vector<std::int64_t> first;
  std::vector<float> weights;

  Taps(std::int64_t source_size, std::int64_t widest)
      : count(std::min(widest, source_size)), first(kSide), weights(kSide * count) {}
  float& weight(std::int64_t d, std::int64_t source) {
    return weights[d * count + source - first[d]];
  }
  const float* of(std::int64_t d) const { return &weights[d * count]; }
};

// Between `position` (0 … size - 1, in f32 as the references compute it) and its right neighbour.
template <class Position>
Taps bilinear(std::int64_t size, const Position& position) {
  Taps taps(size, 2);
  for (std::int64_t d = 0; d < kSide; ++d) {
    const float source = position(static_cast<float>(d));
    const auto low = std::min(static_cast<std::int64_t>(source), size - 1);
    const auto high = std::min(low + 1, size - 1);
    const float share = source - static_cast<float>(low);
    taps.first[d] = std::min(low, size - taps.count);
    taps.weight(d, low) += 1 - share;
    taps.weight(d, high) += share;
  }
  return taps;
}

// Keys 1981 with a = -1/2.
double cubic(double x) {
  x = std::abs(x);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  if (x < 2) return ((-0.5 * x + 2.5) * x - 4) * x + 2;
  return 0;
}

// The kernel widens with the step between results, and is cut and renormalised at the border.
Taps antialiased_cubic(std::int64_t size) {
  const double scale = static_cast<double>(size) / kSide, width = std::max(scale, 1.0);
  Taps taps(size, static_cast<std::int64_t>(std::ceil(2 * width)) * 2 + 1);
  for (std::int64_t d = 0; d < kSide; ++d) {
    const double centre = (static_cast<double>(d) + 0.5) * scale;
    const auto begin = static_cast<std::int64_t>(std::max(centre - 2 * width + 0.5, 0.0));
    const auto end = std::min(static_cast<std::int64_t>(centre + 2 * width + 0.5), size);
    const auto at = [&](std::int64_t s) {
      return cubic((static_cast<double>(s) - centre + 0.5) / width);
    };
    double sum = 0;
    for (auto s = begin; s < end; ++s) sum += at(s);
    taps.first[d] = std::min(begin, size - taps.count);
    for (auto s = begin; s < end; ++s) taps.weight(d, s) = static_cast<float>(at(s) / sum);
  }
  return taps;
}

Taps taps_of(Preprocessing rule, std::int64_t size) {
  const auto step = static_cast<float>(static_cast<double>(size) / kSide);
  switch (rule) {
    case Preprocessing::pytorch_fid:
      return bilinear(size, [&](float d) { return std::max((d + 0.5f) * step - 0.5f, 0.0f); });
    case Preprocessing::clean: return antialiased_cubic(size);
    case Preprocessing::adm:
    case Preprocessing::torch_fidelity: break;
  }
  return bilinear(size, [&](float d) { return d * step; });
}

// Grey value 0…255 -> factor * (value - centre), after a clip that only a cubic needs.
struct Scale {
  float factor, centre;
};

Scale scale_of(Preprocessing rule) {
  if (rule == Preprocessing::pytorch_fid) return {1 / 127.5f, 127.5f};
  return {1 / 128.0f, 128.0f};
}

// One row of a channel of the result, before its columns are mixed: out[x * kLanes].
void mix_rows(const std::uint8_t* plane, std::int64_t width, const Taps& taps, std::int64_t row,
              float* __restrict sums, float* __restrict out) {
  const float* weights = taps.of(row);
  std::fill_n(sums, width, 0.0f);
  for (std::int64_t k = 0; k < taps.count; ++k) {
    const std::uint8_t* __restrict source = plane + (taps.first[row] + k) * width;
    const float weight = weights[k];
    for (std::int64_t x = 0; x < width; ++x) sums[x] += weight * static_cast<float>(source[x]);
  }
  for (std::int64_t x = 0; x < width; ++x) out[x * kLanes] = sums[x];
}

// mixed [width][kLanes] -> out [299][3].
void mix_columns(const float* __restrict mixed, const Taps& taps, Scale scale,
                 float* __restrict out) {
  for (std::int64_t d = 0; d < kSide; ++d, out += 3) {
    const float* weights = taps.of(d);
    const float* source = mixed + taps.first[d] * kLanes;
    float sums[kLanes] = {};
    for (std::int64_t k = 0; k < taps.count; ++k, source += kLanes)
      for (std::int64_t c = 0; c < kLanes; ++c) sums[c] += weights[k] * source[c];
    for (std::int64_t c = 0; c < 3; ++c)
      out[c] = (std::clamp(sums[c], 0.0f, 255.0f) - scale.centre) * scale.factor;
  }
}

void check(const at::Tensor& images) {
  const bool fits = images.dim() == 4 && images.scalar_type() == at::kByte &&
                    (images.size(1) == 1 || images.size(1) == 3) && images.size(2) > 0 &&
                    images.size(3) > 0;
  if (fits) return;
  throw std::invalid_argument(c10::str("images are ", images.scalar_type(), " ", images.sizes(),
                                       ", expected Byte [n,1,H,W] or [n,3,H,W]"));
}

}  // namespace

at::Tensor preprocess(const at::Tensor& images, Preprocessing rule) {
  check(images);
  const at::Tensor source = images.to(at::kCPU).contiguous();
  const auto count = source.size(0), channels = source.size(1);
  const auto height = source.size(2), width = source.size(3);
  at::Tensor result = at::empty(
      {count, 3, kSide, kSide},
      at::TensorOptions().dtype(at::kFloat).memory_format(at::MemoryFormat::ChannelsLast));
  const auto* from = source.const_data_ptr<std::uint8_t>();
  auto* to = result.mutable_data_ptr<float>();
  const Taps vertical = taps_of(rule, height), horizontal = taps_of(rule, width);
  const Scale scale = scale_of(rule);
  at::parallel_for(0, count * kSide, kRowsPerTask, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> sums(width), mixed(width * kLanes);
    for (auto unit = begin; unit < end; ++unit) {
      const auto image = unit / kSide, row = unit % kSide;
      for (std::int64_t c = 0; c < 3; ++c) {
        const auto plane = image * channels + std::min(c, channels - 1);
        mix_rows(from + plane * height * width, width, vertical, row, sums.data(), &mixed[c]);
      }
      mix_columns(mixed.data(), horizontal, scale, to + unit * kSide * 3);
    }
  });
  return result;
}

}  // namespace dkdm::metrics
