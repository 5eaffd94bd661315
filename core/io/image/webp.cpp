// WebP by libwebp's animation decoder, which Pillow uses for still images as well.
#include <webp/demux.h>

#include <memory>

#include "io/image/image_codec.hpp"

namespace dkdm::io {
namespace {

// The decoder holds three canvases of four bytes a pixel.
constexpr std::uint64_t kCanvasLimit = kPixelLimit / 2;

using AnimDecoder = std::unique_ptr<WebPAnimDecoder, decltype(&WebPAnimDecoderDelete)>;

}  // namespace

Pixels decode_webp(const std::string& bytes, const std::string& file) {
  const WebPData data{reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()};
  WebPBitstreamFeatures header;
  if (WebPGetFeatures(data.bytes, data.size, &header) != VP8_STATUS_OK)
    throw DataError(file, "WebP: its header is damaged or cut short");
  if (std::uint64_t(header.width) * std::uint64_t(header.height) > kCanvasLimit)
    throw DataError(file, "WebP: more than 2^26 pixels");
  WebPAnimDecoderOptions options;
  WebPAnimDecoderOptionsInit(&options);
  options.color_mode = MODE_RGBA;
  options.use_threads = 0;
  const AnimDecoder decoder(WebPAnimDecoderNew(&data, &options), WebPAnimDecoderDelete);
  std::uint8_t* canvas = nullptr;
  int time_ms = 0;
  if (!decoder || !WebPAnimDecoderGetNext(decoder.get(), &canvas, &time_ms))
    throw DataError(file, "WebP: damaged or cut short");
  Pixels pixels{.height = header.height, .width = header.width, .channels = 3, .data = {}};
  const std::size_t area = std::size_t(header.height) * std::size_t(header.width);
  pixels.data.resize(area * 3);
  for (std::size_t i = 0; i < area; ++i)
    for (std::size_t c = 0; c < 3; ++c) pixels.data[i * 3 + c] = canvas[i * 4 + c];
  return pixels;
}

}  // namespace dkdm::io
