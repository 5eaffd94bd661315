// PNG and JPEG between files' bytes and interleaved 8-bit pixels.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dkdm/error.hpp"

namespace dkdm::io {

struct Pixels {
  std::int64_t height = 0, width = 0, channels = 0;  // channels: 1 grey, 3 RGB
  std::vector<std::uint8_t> data;                    // [height, width, channels]
};

// More is refused before memory is asked for: a header's width and height cost an attacker nothing.
inline constexpr std::uint64_t kPixelLimit = std::uint64_t{1} << 27;

// `bytes` is a whole file, `file` its name for DataError. Transparency is dropped, 16-bit samples
// keep their high byte (as Pillow does), colour profiles and gamma are not applied.
Pixels decode_png(const std::string& bytes, const std::string& file);
// Grey or colour; CMYK is refused.
Pixels decode_jpeg(const std::string& bytes, const std::string& file);

std::string encode_png(const Pixels& pixels);

}  // namespace dkdm::io
