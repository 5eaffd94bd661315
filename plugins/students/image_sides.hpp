// What architectures ask of the sides of images: that they can be cut into patches, or halved.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>

#include "dkdm/error.hpp"
#include "dkdm/shape.hpp"

namespace dkdm::students {

// "32", or "48 x 32" where height and width differ.
inline std::string sides_text(const SampleShape& shape) {
  const std::string height = std::to_string(shape.height);
  return shape.height == shape.width ? height : height + " x " + std::to_string(shape.width);
}

// Square patches of an image, row by row; a transformer's tokens.
struct PatchGrid {
  std::int64_t rows = 0, columns = 0, patch = 1;

  std::int64_t tokens() const { return rows * columns; }
  // [N,T,P*P*C], a token being (row in patch, column in patch, channel) -> [N,C,H,W],
  // channels-last.
  at::Tensor image(const at::Tensor& tokens) const {
    const std::int64_t n = tokens.size(0), channels = tokens.size(2) / (patch * patch);
    return tokens.view({n, rows, columns, patch, patch, channels})
        .permute({0, 1, 3, 2, 4, 5})
        .reshape({n, rows * patch, columns * patch, channels})
        .permute({0, 3, 1, 2});
  }
};

// Throws ConfigError, of the parameter patch_size.
inline PatchGrid patch_grid(const SampleShape& shape, std::int64_t patch) {
  constexpr std::int64_t kMostTokens = 65536;
  const std::string given = "patch_size is " + std::to_string(patch);
  if (!shape.is_divisible_by(patch))
    throw ConfigError(given + ", expected a divisor of the image size, " + sides_text(shape));
  const PatchGrid grid{shape.height / patch, shape.width / patch, patch};
  if (grid.tokens() > kMostTokens)
    throw ConfigError(given + ": images of " + sides_text(shape) + " pixels are " +
                      std::to_string(grid.tokens()) + " patches, expected at most " +
                      std::to_string(kMostTokens));
  return grid;
}

// Throws ConfigError where the image cannot be halved between the `levels` of channel_mult.
inline void check_levels(const SampleShape& shape, std::size_t levels) {
  const std::size_t halvings = levels - 1;
  if (halvings <= 30 && shape.is_divisible_by(std::int64_t{1} << halvings)) return;
  throw ConfigError("channel_mult has " + std::to_string(levels) + " levels: the image, " +
                    sides_text(shape) + " pixels, cannot be halved " + std::to_string(halvings) +
                    " times; give fewer levels");
}

}  // namespace dkdm::students
