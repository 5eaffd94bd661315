// PNG, JPEG, WebP and GIF between files' bytes and interleaved 8-bit pixels.
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

// `bytes` is a whole file, `file` its name for DataError. The pixels are those of Pillow's
// Image.open(file).convert("RGB"), or of convert("L") where the file is grey: transparency is
// dropped and not composited; colour profiles, gamma, significant bits and Exif's orientation are
// not applied; of an animation comes the first frame. What is damaged or cut short is refused.
//
// 16-bit samples keep their high byte, but grey ones without alpha are clipped to 255, as Pillow
// does.
Pixels decode_png(const std::string& bytes, const std::string& file);
// CMYK and YCCK are taken as inverted, whatever their markers say. 12 bits are refused (Pillow,
// too).
Pixels decode_jpeg(const std::string& bytes, const std::string& file);
Pixels decode_webp(const std::string& bytes, const std::string& file);
// On its screen: what the frame leaves free has the transparent colour, or the first of the
// palette.
Pixels decode_gif(const std::string& bytes, const std::string& file);

std::string encode_png(const Pixels& pixels);

}  // namespace dkdm::io
