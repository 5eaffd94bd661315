// PNG, JPEG, grids, and pixel values.
#include <ATen/ATen.h>

#include <catch2/catch.hpp>

#include "dkdm/files.hpp"
#include "dkdm/image.hpp"
#include "dkdm/io.hpp"
#include "fixtures/analytic.hpp"
#include "golden/files.hpp"
#include "golden/u_fill.hpp"

using namespace dkdm;
using Catch::Matchers::Contains;
using fixtures::ScratchFolder;
using fixtures::values;

namespace {

at::Tensor picture(std::int64_t channels, std::int64_t height, std::int64_t width) {
  return (golden::u_fill(5, {channels, height, width}, 127.5) + 127.5).to(at::kByte);
}

at::Tensor read(const std::string& bytes, std::int64_t channels) {
  ScratchFolder scratch;
  io::write_text(scratch.path / "image", bytes);
  return io::read_image(scratch.path / "image", channels);
}

}  // namespace

TEST_CASE("png: grey and colour pictures come back as they were", "[unit][io]") {
  ScratchFolder scratch;
  const auto file = scratch.path / "a.png";
  for (const std::int64_t channels : {1, 3}) {
    const at::Tensor image = picture(channels, 5, 9);
    io::write_png(file, image);
    CHECK(at::equal(io::read_image(file, channels), image));
  }
}

TEST_CASE("png: grey read as colour repeats, colour read as grey is Rec. 601 luma", "[unit][io]") {
  ScratchFolder scratch;
  const auto file = scratch.path / "a.png";
  const at::Tensor grey = picture(1, 4, 4);
  io::write_png(file, grey);
  CHECK(at::equal(io::read_image(file, 3), grey.expand({3, 4, 4})));
  // 0.299 R + 0.587 G + 0.114 B, rounded: of pure red, green, blue and of white.
  const at::Tensor colours =
      at::tensor({255, 0, 0, 255, 0, 255, 0, 255, 0, 0, 255, 255}).to(at::kByte).view({3, 2, 2});
  io::write_png(file, colours);
  CHECK(values(io::read_image(file, 1)) == std::vector<std::int64_t>{76, 150, 29, 255});
}

TEST_CASE("png: a palette is resolved and transparency dropped, as Pillow does", "[unit][io]") {
  // Sums over each channel and first pixels by Pillow 13.0.
  const at::Tensor palette = read(golden::kPalettePng, 3);
  CHECK(values(palette.to(at::kLong).sum({1, 2})) == std::vector<std::int64_t>{6750, 6400, 4500});
  CHECK(values(palette.select(1, 0).narrow(1, 0, 2)) ==
        std::vector<std::int64_t>{0, 45, 100, 100, 20, 20});
  const at::Tensor transparent = read(golden::kTransparentPng, 3);
  CHECK(values(transparent.select(1, 0).select(1, 0)) == std::vector<std::int64_t>{10, 200, 30});
  CHECK(values(transparent.select(1, 1).select(1, 1)) == std::vector<std::int64_t>{255, 0, 1});
  CHECK(values(read(golden::kTransparentPng, 1)) == std::vector<std::int64_t>{124, 124, 124, 76});
}

TEST_CASE("jpeg: pixels are those that Pillow decodes", "[unit][io]") {
  // Pillow 13.0; both decode with libjpeg-turbo's accurate integer transform.
  const at::Tensor image = read(golden::kJpeg, 3);
  CHECK(image.sizes() == at::IntArrayRef({3, 8, 8}));
  CHECK(values(image.to(at::kLong).sum({1, 2})) == std::vector<std::int64_t>{6708, 6400, 4486});
  CHECK(values(image.select(1, 0).select(1, 0)) == std::vector<std::int64_t>{1, 99, 0});
  CHECK(values(image.select(1, 7).select(1, 7)) == std::vector<std::int64_t>{208, 102, 142});
  CHECK(read(golden::kJpeg, 1).sum().item<std::int64_t>() == 6272);
}

TEST_CASE("images: a file cut short or of another kind is refused by name", "[unit][io]") {
  CHECK_THROWS_AS(read(golden::kPalettePng.substr(0, 130), 3), DataError);
  CHECK_THROWS_WITH(read(golden::kPalettePng.substr(0, 130), 3),
                    Contains("image: byte ") && Contains("truncated"));
  CHECK_THROWS_AS(read(golden::kJpeg.substr(0, golden::kJpeg.size() - 8), 3), DataError);
  CHECK_THROWS_WITH(read("GIF89a", 3), Contains("GIF: "));
  CHECK_THROWS_WITH(read("", 3), Contains("not a PNG, JPEG, WebP or GIF image"));
}

TEST_CASE("grid: tiles run row by row with one light pixel between them", "[unit][io]") {
  // Five 1 x 1 images 0..4 in two columns, each drawn 2 x 2: written out by hand, 255 between.
  const at::Tensor images = at::arange(5).to(at::kByte).view({5, 1, 1, 1});
  const at::Tensor grid = io::image_grid(images, 2, 2);
  REQUIRE(grid.sizes() == at::IntArrayRef({1, 8, 5}));
  const std::int64_t o = 255;
  CHECK(values(grid) == std::vector<std::int64_t>{0, 0, o, 1, 1,  //
                                                  0, 0, o, 1, 1,  //
                                                  o, o, o, o, o,  //
                                                  2, 2, o, 3, 3,  //
                                                  2, 2, o, 3, 3,  //
                                                  o, o, o, o, o,  //
                                                  4, 4, o, o, o,  //
                                                  4, 4, o, o, o});
}

TEST_CASE("grid: no number of columns means nearly square, and colour is kept", "[unit][io]") {
  const at::Tensor images = at::stack({picture(3, 4, 4), 255 - picture(3, 4, 4)});
  CHECK(io::image_grid(images.repeat({5, 1, 1, 1}), 0, 1).sizes() == at::IntArrayRef({3, 14, 19}));
  CHECK(io::image_grid(images, 7, 1).sizes() == at::IntArrayRef({3, 4, 9}));
  CHECK(at::equal(io::image_grid(images, 2, 1).narrow(2, 5, 4), images[1]));
  CHECK_THROWS(io::image_grid(at::zeros({2, 3, 4, 4}), 0, 1));
}

TEST_CASE("pixels: uint8 goes to [-1,1] and back to itself or one below", "[unit][io]") {
  const at::Tensor levels = at::arange(256).to(at::kByte).view({1, 1, 16, 16});
  const at::Tensor x = to_unit_range(levels);
  CHECK(x.min().item<float>() == -1);
  CHECK(x.max().item<float>() == 1);
  CHECK(x.flatten()[51].item<float>() == Approx(51 / 127.5 - 1));
  // Truncation loses a level where f32 lands just below an integer.
  const at::Tensor lost = levels.to(at::kInt) - to_uint8(x).to(at::kInt);
  CHECK(lost.min().item<int>() == 0);
  CHECK(lost.max().item<int>() <= 1);
}

TEST_CASE("pixels: samples are clamped and truncated as ADM writes them", "[unit][io]") {
  // ((x + 1) * 127.5).clamp(0, 255).to(uint8): 0 -> 127.5, 0.5 -> 191.25, 0.9999 -> 254.987.
  const at::Tensor x = at::tensor({-7.f, -1.f, 0.f, 0.5f, 0.9999f, 1.f, 3.f}).view({1, 1, 1, 7});
  CHECK(values(to_uint8(x)) == std::vector<std::int64_t>{0, 0, 127, 191, 254, 255, 255});
}
