// JPEG by libjpeg. Its errors are long jumps: everything with a destructor lives outside them.
#include <csetjmp>
#include <cstddef>
#include <cstdio>
#include <cstring>

#include <jpeglib.h>
#include <jerror.h>

#include "io/image_codec.hpp"

namespace dkdm::io {
namespace {

struct Decoder {
  jpeg_error_mgr errors{};
  jpeg_decompress_struct jpeg{};
  std::jmp_buf jump;
  Pixels pixels;
  char error[JMSG_LENGTH_MAX] = "";

  ~Decoder() { jpeg_destroy_decompress(&jpeg); }
};

void on_error(j_common_ptr jpeg) {
  auto* decoder = static_cast<Decoder*>(jpeg->client_data);
  jpeg->err->format_message(jpeg, decoder->error);
  std::longjmp(decoder->jump, 1);
}

// libjpeg fills what is missing with grey and only warns: for training data that is damage.
void on_message(j_common_ptr jpeg, int level) {
  if (level < 0 && jpeg->err->msg_code != JWRN_EXTRANEOUS_DATA) on_error(jpeg);
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
  if (jpeg.num_components != 1 && jpeg.num_components != 3) refuse(decoder, "neither grey nor RGB");
  if (std::uint64_t{jpeg.image_width} * jpeg.image_height > kPixelLimit) {
    refuse(decoder, "more than 2^27 pixels");
  }
  jpeg.out_color_space = jpeg.num_components == 1 ? JCS_GRAYSCALE : JCS_RGB;
  jpeg_start_decompress(&jpeg);
  Pixels& pixels = decoder.pixels;
  pixels.height = jpeg.output_height;
  pixels.width = jpeg.output_width;
  pixels.channels = jpeg.output_components;
  const std::size_t row_bytes = static_cast<std::size_t>(pixels.width * pixels.channels);
  pixels.data.resize(row_bytes * jpeg.output_height);
  while (jpeg.output_scanline < jpeg.output_height) {
    JSAMPROW row = pixels.data.data() + row_bytes * jpeg.output_scanline;
    jpeg_read_scanlines(&jpeg, &row, 1);
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
