// JPEG by libjpeg. Its errors are long jumps: everything with a destructor lives outside them.
#include <csetjmp>
#include <cstddef>
#include <cstdio>
#include <cstring>

#include <jpeglib.h>
// After it: what jerror.h defines depends on it.
#include <jerror.h>

#include "io/image/image_codec.hpp"

namespace dkdm::io {
namespace {

struct Decoder {
  jpeg_error_mgr errors{};
  jpeg_decompress_struct jpeg{};
  std::jmp_buf jump;
  Pixels pixels;
  std::vector<std::uint8_t> cmyk;  // one row
  char error[JMSG_LENGTH_MAX] = "";

  ~Decoder() { jpeg_destroy_decompress(&jpeg); }
};

void on_error(j_common_ptr jpeg) {
  auto* decoder = static_cast<Decoder*>(jpeg->client_data);
  jpeg->err->format_message(jpeg, decoder->error);
  std::longjmp(decoder->jump, 1);
}

// libjpeg fills what is missing with grey and only warns, and Pillow opens such files without a
// word: for training data and samples that is damage. Its other warnings are of headers and change
// no pixel.
void on_message(j_common_ptr jpeg, int level) {
  if (level >= 0) return;
  switch (jpeg->err->msg_code) {
    case JWRN_ARITH_BAD_CODE:
    case JWRN_HIT_MARKER:
    case JWRN_HUFF_BAD_CODE:
    case JWRN_JPEG_EOF:
    case JWRN_MUST_RESYNC:
    case JWRN_NOT_SEQUENTIAL: on_error(jpeg);
  }
}

// Rows of C, M, Y, K as Adobe's programs store them, inverted, to RGB: what Pillow makes of every
// JPEG of four channels. product / 255 is rounded, in Blinn's exact integer form.
void cmyk_to_rgb(const std::uint8_t* cmyk, std::int64_t count, std::uint8_t* rgb) {
  for (std::int64_t i = 0; i < count; ++i, cmyk += 4, rgb += 3) {
    const int light = cmyk[3];  // 255 - K
    for (int c = 0; c < 3; ++c) {
      const int product = (255 - cmyk[c]) * light + 128;
      rgb[c] = static_cast<std::uint8_t>(light - (((product >> 8) + product) >> 8));
    }
  }
}

void refuse(Decoder& decoder, const char* reason) {
  std::strncpy(decoder.error, reason, sizeof decoder.error - 1);
  std::longjmp(decoder.jump, 1);
}

// Runs between setjmp and a possible jump: no local here has a destructor.
void decode(Decoder& decoder, const std::string& bytes) {
  jpeg_decompress_struct& jpeg = decoder.jpeg;
  jpeg_mem_src(&jpeg, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  jpeg_read_header(&jpeg, TRUE);
  const int components = jpeg.num_components;
  if (components != 1 && components != 3 && components != 4)
    refuse(decoder, "neither grey, RGB nor CMYK");
  if (std::uint64_t{jpeg.image_width} * jpeg.image_height > kPixelLimit) {
    refuse(decoder, "more than 2^27 pixels");
  }
  jpeg.out_color_space = components == 1 ? JCS_GRAYSCALE : components == 3 ? JCS_RGB : JCS_CMYK;
  jpeg_start_decompress(&jpeg);
  Pixels& pixels = decoder.pixels;
  pixels.height = jpeg.output_height;
  pixels.width = jpeg.output_width;
  pixels.channels = components == 1 ? 1 : 3;
  const std::size_t row_bytes = static_cast<std::size_t>(pixels.width * pixels.channels);
  pixels.data.resize(row_bytes * jpeg.output_height);
  if (components == 4) decoder.cmyk.resize(static_cast<std::size_t>(pixels.width) * 4);
  while (jpeg.output_scanline < jpeg.output_height) {
    std::uint8_t* out = pixels.data.data() + row_bytes * jpeg.output_scanline;
    JSAMPROW row = components == 4 ? decoder.cmyk.data() : out;
    jpeg_read_scanlines(&jpeg, &row, 1);
    if (components == 4) cmyk_to_rgb(row, pixels.width, out);
  }
  jpeg_finish_decompress(&jpeg);
}

}  // namespace

Pixels decode_jpeg(const std::string& bytes, const std::string& file) {
  Decoder decoder;
  decoder.jpeg.err = jpeg_std_error(&decoder.errors);
  decoder.errors.error_exit = on_error;
  decoder.errors.emit_message = on_message;
  decoder.jpeg.client_data = &decoder;
  if (setjmp(decoder.jump) != 0) throw DataError(file, std::string("JPEG: ") + decoder.error);
  jpeg_create_decompress(&decoder.jpeg);
  decode(decoder, bytes);
  return std::move(decoder.pixels);
}

}  // namespace dkdm::io
