// Bilinear resizing of uint8 images to the bit of OpenCV's cv::resize (INTER_LINEAR, its default,
// 4.x and 5.0): coefficients of 11 bits, no antialiasing, bits cut off twice on the way, which
// darkens by 1/8 of a grey level (findings/opencv-bilinear-bias.sh, tests/golden/make_bilinear.py).
#pragma once

#include <ATen/ATen.h>

#include <cmath>
#include <cstdint>
#include <vector>

namespace dkdm::datasets {

// Each of `to` samples lies between two neighbours of `from`, with weights of 2048 in all.
struct LinearTap {
  std::int64_t first, second;
  std::int32_t first_weight, second_weight;
};

inline std::vector<LinearTap> linear_taps(std::int64_t from, std::int64_t to) {
  const double step = static_cast<double>(from) / static_cast<double>(to);
  std::vector<LinearTap> taps;
  for (std::int64_t d = 0; d < to; ++d) {
    const auto place = static_cast<float>((static_cast<double>(d) + 0.5) * step - 0.5);
    auto first = static_cast<std::int64_t>(std::floor(place));
    float share = place - static_cast<float>(first);
    if (first < 0 || first >= from - 1) {
      first = first < 0 ? 0 : from - 1;
      share = 0;
    }
    // Half to even, as OpenCV's cvRound.
    taps.push_back({first, std::min(first + 1, from - 1),
                    static_cast<std::int32_t>(std::nearbyint(2048 * (1 - share))),
                    static_cast<std::int32_t>(std::nearbyint(2048 * share))});
  }
  return taps;
}

// uint8 [C,H,W] -> [C,height,width]; the aspect is what the two sizes make it.
inline at::Tensor resize_bilinear(const at::Tensor& image, std::int64_t height,
                                  std::int64_t width) {
  const at::Tensor source = image.contiguous();
  const std::int64_t channels = source.size(0), rows = source.size(1), columns = source.size(2);
  const auto down = linear_taps(rows, height), across = linear_taps(columns, width);
  at::Tensor resized = at::empty({channels, height, width}, at::kByte);
  const auto* in = source.const_data_ptr<std::uint8_t>();
  auto* out = resized.mutable_data_ptr<std::uint8_t>();
  for (std::int64_t channel = 0; channel < channels; ++channel, in += rows * columns) {
    for (const LinearTap& y : down) {
      const std::uint8_t* upper = in + y.first * columns;
      const std::uint8_t* lower = in + y.second * columns;
      for (const LinearTap& x : across) {
        const std::int32_t above =
            upper[x.first] * x.first_weight + upper[x.second] * x.second_weight;
        const std::int32_t below =
            lower[x.first] * x.first_weight + lower[x.second] * x.second_weight;
        *out++ = static_cast<std::uint8_t>(
            ((y.first_weight * (above >> 4) >> 16) + (y.second_weight * (below >> 4) >> 16) + 2) >>
            2);
      }
    }
  }
  return resized;
}

}  // namespace dkdm::datasets
