// GIF by giflib: the first frame on its screen, as Pillow shows it.
#include <gif_lib.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <optional>

#include "io/image/image_codec.hpp"

namespace dkdm::io {
namespace {

// The file as giflib reads it.
struct Source {
  const std::string& bytes;
  std::size_t at = 0;
};

int read_bytes(GifFileType* gif, GifByteType* out, int count) {
  auto& source = *static_cast<Source*>(gif->UserData);
  const std::size_t got = std::min(std::size_t(count), source.bytes.size() - source.at);
  std::memcpy(out, source.bytes.data() + source.at, got);
  source.at += got;
  return int(got);
}

struct Close {
  void operator()(GifFileType* gif) const { DGifCloseFile(gif, nullptr); }
};
using Gif = std::unique_ptr<GifFileType, Close>;

[[noreturn]] void refuse(const std::string& file, int error) {
  const char* reason = GifErrorString(error);
  throw DataError(file, std::string("GIF: ") + (reason ? reason : "damaged or cut short"));
}

// The index that a graphic control block before the image makes transparent, if any. On return the
// image's descriptor is next.
std::optional<int> skip_to_image(GifFileType* gif, const std::string& file) {
  constexpr int kFlags = 1, kIndex = 4;  // behind the block's length
  std::optional<int> transparent;
  for (;;) {
    GifRecordType type{};
    if (DGifGetRecordType(gif, &type) != GIF_OK) refuse(file, gif->Error);
    if (type == IMAGE_DESC_RECORD_TYPE) return transparent;
    if (type != EXTENSION_RECORD_TYPE) throw DataError(file, "GIF: it holds no image");
    int code = 0;
    GifByteType* block = nullptr;
    if (DGifGetExtension(gif, &code, &block) != GIF_OK) refuse(file, gif->Error);
    if (code == GRAPHICS_EXT_FUNC_CODE && block && block[0] >= kIndex && (block[kFlags] & 1) != 0) {
      transparent = block[kIndex];
    }
    while (block) {
      if (DGifGetExtensionNext(gif, &block) != GIF_OK) refuse(file, gif->Error);
    }
  }
}

// Colours by index; none where the indices are greys. A palette that is shorter goes on in black.
using Palette = std::array<std::array<std::uint8_t, 3>, 256>;

std::optional<Palette> palette_of(const ColorMapObject* map) {
  if (!map) return std::nullopt;
  Palette palette{};
  bool grey = true;
  for (int i = 0; i < std::min(map->ColorCount, 256); ++i) {
    const GifColorType& colour = map->Colors[i];
    palette[std::size_t(i)] = {colour.Red, colour.Green, colour.Blue};
    grey = grey && colour.Red == i && colour.Green == i && colour.Blue == i;
  }
  return grey ? std::nullopt : std::optional(palette);
}

// Lines of the frame in the order of the file.
std::vector<int> line_order(int height, bool interlaced) {
  std::vector<int> order;
  if (!interlaced) {
    for (int y = 0; y < height; ++y) order.push_back(y);
    return order;
  }
  constexpr std::array<std::array<int, 2>, 4> kPasses{{{0, 8}, {4, 8}, {2, 4}, {1, 2}}};
  for (const auto& [first, step] : kPasses)
    for (int y = first; y < height; y += step) order.push_back(y);
  return order;
}

}  // namespace

Pixels decode_gif(const std::string& bytes, const std::string& file) {
  Source source{bytes};
  int error = D_GIF_SUCCEEDED;
  const Gif gif(DGifOpen(&source, read_bytes, &error));
  if (!gif) refuse(file, error);
  const std::optional<int> transparent = skip_to_image(gif.get(), file);
  if (DGifGetImageDesc(gif.get()) != GIF_OK) refuse(file, gif->Error);

  const GifImageDesc& frame = gif->Image;
  // A frame that is larger than its screen enlarges it.
  const auto width = std::max<std::int64_t>(gif->SWidth, std::int64_t{frame.Left} + frame.Width);
  const auto height = std::max<std::int64_t>(gif->SHeight, std::int64_t{frame.Top} + frame.Height);
  if (width <= 0 || height <= 0 || frame.Width <= 0 || frame.Height <= 0) {
    throw DataError(file, "GIF: an image without pixels");
  }
  if (std::uint64_t(width) * std::uint64_t(height) > kPixelLimit)
    throw DataError(file, "GIF: more than 2^27 pixels");

  std::vector<GifPixelType> indices(std::size_t(width * height),
                                    GifPixelType(transparent.value_or(0)));
  for (const int y : line_order(frame.Height, frame.Interlace)) {
    GifPixelType* line =
        indices.data() + std::size_t(frame.Top + y) * std::size_t(width) + frame.Left;
    if (DGifGetLine(gif.get(), line, frame.Width) != GIF_OK) refuse(file, gif->Error);
  }

  const auto palette = palette_of(frame.ColorMap ? frame.ColorMap : gif->SColorMap);
  if (!palette)
    return {.height = height, .width = width, .channels = 1, .data = std::move(indices)};
  Pixels pixels{.height = height, .width = width, .channels = 3, .data = {}};
  pixels.data.resize(indices.size() * 3);
  auto out = pixels.data.begin();
  for (const GifPixelType index : indices)
    out = std::copy((*palette)[index].begin(), (*palette)[index].end(), out);
  return pixels;
}

}  // namespace dkdm::io
