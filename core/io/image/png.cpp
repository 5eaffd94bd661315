// PNG by libpng, whose errors are long jumps: everything with a destructor lives outside them.
#include <png.h>

#include <csetjmp>
#include <cstring>

#include "io/image/image_codec.hpp"
#include "io/input_file.hpp"

namespace dkdm::io {
namespace {

struct Decoder {
  const std::string& bytes;
  std::size_t at = 0;
  png_structp png = nullptr;
  png_infop info = nullptr;
  Pixels pixels;
  std::vector<png_bytep> rows;
  char error[160] = "";

  explicit Decoder(const std::string& file_bytes) : bytes(file_bytes) {}
  ~Decoder() { png_destroy_read_struct(&png, &info, nullptr); }
};

void on_error(png_structp png, png_const_charp message) {
  auto* decoder = static_cast<Decoder*>(png_get_error_ptr(png));
  std::strncpy(decoder->error, message, sizeof decoder->error - 1);
  png_longjmp(png, 1);
}

void on_warning(png_structp, png_const_charp) {}

void on_read(png_structp png, png_bytep out, std::size_t count) {
  auto* decoder = static_cast<Decoder*>(png_get_io_ptr(png));
  if (count > decoder->bytes.size() - decoder->at) png_error(png, "the file is truncated");
  std::memcpy(out, decoder->bytes.data() + decoder->at, count);
  decoder->at += count;
}

// Pillow's convert() of its mode "I;16": big-endian values above 255 become 255.
void clip_to_bytes(std::vector<std::uint8_t>& data) {
  for (std::size_t i = 0; i < data.size() / 2; ++i) data[i] = data[2 * i] ? 255 : data[2 * i + 1];
  data.resize(data.size() / 2);
}

// Runs between setjmp and a possible jump: no local here has a destructor.
void decode(Decoder& decoder) {
  png_structp png = decoder.png;
  png_infop info = decoder.info;
  png_set_read_fn(png, &decoder, on_read);
  png_read_info(png, info);
  const std::uint64_t width = png_get_image_width(png, info);
  const std::uint64_t height = png_get_image_height(png, info);
  if (width * height > kPixelLimit) png_error(png, "more than 2^27 pixels");
  if (png_get_rowbytes(png, info) * height / kDeflateLimit > decoder.bytes.size()) {
    png_error(png, "promises more pixels than its bytes can hold (truncated?)");
  }
  png_set_palette_to_rgb(png);
  if (png_get_color_type(png, info) == PNG_COLOR_TYPE_GRAY) png_set_expand_gray_1_2_4_to_8(png);
  // Grey without alpha keeps its 16 bits until clip_to_bytes().
  const bool wide =
      png_get_color_type(png, info) == PNG_COLOR_TYPE_GRAY && png_get_bit_depth(png, info) == 16;
  if (!wide) png_set_strip_16(png);
  png_set_strip_alpha(png);
  png_set_interlace_handling(png);
  png_read_update_info(png, info);

  Pixels& pixels = decoder.pixels;
  pixels.width = static_cast<std::int64_t>(width);
  pixels.height = static_cast<std::int64_t>(height);
  pixels.channels = png_get_channels(png, info);
  if (png_get_rowbytes(png, info) !=
      width * static_cast<std::uint64_t>(pixels.channels) * (wide ? 2 : 1)) {
    png_error(png, "an unknown pixel format");
  }
  pixels.data.resize(height * png_get_rowbytes(png, info));
  decoder.rows.resize(height);
  for (std::uint64_t y = 0; y < height; ++y) {
    decoder.rows[y] = pixels.data.data() + y * png_get_rowbytes(png, info);
  }
  png_read_image(png, decoder.rows.data());
  png_read_end(png, nullptr);
  if (wide) clip_to_bytes(pixels.data);
}

}  // namespace

Pixels decode_png(const std::string& bytes, const std::string& file) {
  Decoder decoder(bytes);
  decoder.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &decoder, on_error, on_warning);
  decoder.info = decoder.png ? png_create_info_struct(decoder.png) : nullptr;
  if (!decoder.info) throw Error(file + ": libpng has no memory");
  if (setjmp(png_jmpbuf(decoder.png)) != 0) {
    throw DataError(at_byte(file, decoder.at), std::string("PNG: ") + decoder.error);
  }
  decode(decoder);
  return std::move(decoder.pixels);
}

std::string encode_png(const Pixels& pixels) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = static_cast<png_uint_32>(pixels.width);
  image.height = static_cast<png_uint_32>(pixels.height);
  image.format = pixels.channels == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB;
  std::string bytes(PNG_IMAGE_PNG_SIZE_MAX(image), '\0');
  png_alloc_size_t size = bytes.size();
  if (!png_image_write_to_memory(&image, bytes.data(), &size, 0, pixels.data.data(), 0, nullptr)) {
    throw Error(std::string("PNG: ") + image.message);
  }
  bytes.resize(size);
  return bytes;
}

}  // namespace dkdm::io
