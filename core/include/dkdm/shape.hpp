// Shapes of samples and of images.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "dkdm/error.hpp"

namespace dkdm {

// One sample as networks, processes and samplers see it: f32 [channels, height, width].
struct DKDM_API SampleShape {
  std::int64_t channels = 3, height = 32, width = 32;

  constexpr SampleShape() = default;
  constexpr SampleShape(std::int64_t c, std::int64_t h, std::int64_t w)
      : channels(c), height(h), width(w) {}
  bool operator==(const SampleShape&) const = default;

  std::int64_t values() const { return channels * height * width; }
  std::int64_t shorter_side() const { return height < width ? height : width; }
  std::array<std::int64_t, 3> sizes() const { return {channels, height, width}; }
  std::array<std::int64_t, 4> batch(std::int64_t n) const { return {n, channels, height, width}; }
  bool is_divisible_by(std::int64_t factor) const {
    return height % factor == 0 && width % factor == 0;
  }
};

// uint8 images [channels, height, width], of datasets and evaluators; in pixel space, of samples.
struct ImageSpec : SampleShape {
  using SampleShape::SampleShape;
  static constexpr ImageSpec square(std::int64_t channels, std::int64_t side) {
    return {channels, side, side};
  }
};

DKDM_API std::string text_of(const SampleShape& shape);  // "3x32x32"

}  // namespace dkdm
