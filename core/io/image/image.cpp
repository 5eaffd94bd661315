// Images as tensors: reading by content, grey and colour, PNG files, grids.
#include <ATen/ATen.h>

#include <cmath>
#include <cstring>
#include <string_view>

#include "dkdm/files.hpp"
#include "dkdm/io.hpp"
#include "io/atomic_file.hpp"
#include "io/foreign_file.hpp"
#include "io/image/image_codec.hpp"

namespace dkdm::io {
namespace {

constexpr std::uint8_t kBackground = 255;

// Rec. 601 luma in 16-bit fixed point, rounded: Pillow's convert("L").
std::uint8_t luma(const std::uint8_t* rgb) {
  return static_cast<std::uint8_t>((rgb[0] * 19595u + rgb[1] * 38470u + rgb[2] * 7471u + 0x8000u) >>
                                   16);
}

void check_image(const std::string& where, const at::Tensor& image, std::int64_t dimensions) {
  const std::int64_t first = dimensions - 3;
  TORCH_CHECK(image.dim() == dimensions && image.scalar_type() == at::kByte && image.numel() > 0 &&
                  (image.size(first) == 1 || image.size(first) == 3),
              where, ": expected uint8 images of 1 or 3 channels, not ", image.scalar_type(), " ",
              image.sizes());
}

}  // namespace

at::Tensor read_image(const std::filesystem::path& file, std::int64_t channels) {
  TORCH_CHECK(channels == 1 || channels == 3, "read_image: channels are 1 or 3, not ", channels);
  const std::string bytes = read_text(file);
  const std::string_view view(bytes);
  Pixels pixels;
  if (view.starts_with("\x89PNG\r\n\x1a\n")) {
    pixels = decode_png(bytes, file.string());
  } else if (view.starts_with("\xff\xd8\xff")) {
    pixels = decode_jpeg(bytes, file.string());
  } else if (view.starts_with("RIFF") && view.substr(0, 12).ends_with("WEBP")) {
    pixels = decode_webp(bytes, file.string());
  } else if (view.starts_with("GIF87a") || view.starts_with("GIF89a")) {
    pixels = decode_gif(bytes, file.string());
  } else {
    refuse_foreign(InputFile(file), "a PNG, JPEG, WebP or GIF image");
  }
  at::Tensor image = at::empty({channels, pixels.height, pixels.width}, at::kByte);
  std::uint8_t* out = image.mutable_data_ptr<std::uint8_t>();
  const std::int64_t area = pixels.height * pixels.width;
  for (std::int64_t i = 0; i < area; ++i) {
    const std::uint8_t* pixel = pixels.data.data() + i * pixels.channels;
    if (channels == 1) {
      out[i] = pixels.channels == 1 ? pixel[0] : luma(pixel);
    } else {
      for (std::int64_t c = 0; c < 3; ++c) out[c * area + i] = pixel[pixels.channels == 1 ? 0 : c];
    }
  }
  return image;
}

void write_png(const std::filesystem::path& file, const at::Tensor& image) {
  check_image(file.string(), image, 3);
  const at::Tensor interleaved = image.to(at::kCPU).permute({1, 2, 0}).contiguous();
  Pixels pixels{
      .height = image.size(1), .width = image.size(2), .channels = image.size(0), .data = {}};
  const auto* data = interleaved.const_data_ptr<std::uint8_t>();
  pixels.data.assign(data, data + interleaved.numel());
  AtomicFile output(file);
  output.write(encode_png(pixels));
  output.commit();
}

at::Tensor image_grid(const at::Tensor& images, std::int64_t columns, std::int64_t scale) {
  check_image("image_grid", images, 4);
  TORCH_CHECK(columns >= 0 && scale >= 1, "image_grid: columns from 0, scale from 1");
  const std::int64_t count = images.size(0);
  if (columns == 0) columns = static_cast<std::int64_t>(std::ceil(std::sqrt(double(count))));
  columns = std::min(columns, count);
  const std::int64_t rows = (count + columns - 1) / columns;
  const at::Tensor tiles =
      images.to(at::kCPU).repeat_interleave(scale, 2).repeat_interleave(scale, 3);
  const std::int64_t height = tiles.size(2), width = tiles.size(3);
  at::Tensor grid = at::full({images.size(1), rows * (height + 1) - 1, columns * (width + 1) - 1},
                             kBackground, at::kByte);
  for (std::int64_t i = 0; i < count; ++i) {
    grid.narrow(1, i / columns * (height + 1), height)
        .narrow(2, i % columns * (width + 1), width)
        .copy_(tiles[i]);
  }
  return grid;
}

}  // namespace dkdm::io
