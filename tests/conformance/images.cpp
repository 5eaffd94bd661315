// PNG, JPEG, WebP and GIF files of every kind against Pillow: the pixels that ADM's loader sees.
// Exact: all of it is integer arithmetic, libjpeg-turbo's accurate transform and "fancy" upsampling
// included.
#include <ATen/ATen.h>

#include <catch2/catch.hpp>

#include "dkdm/files.hpp"
#include "dkdm/io.hpp"
#include "fixtures/analytic.hpp"
#include "golden/packed.hpp"

using namespace dkdm;

namespace {

at::Tensor pixels(const nlohmann::json& image, const char* key, std::int64_t channels) {
  const std::string bytes = golden::from_base64(image.at(key).get<std::string>());
  const auto height = image.at("size").at(0).get<std::int64_t>();
  const auto width = image.at("size").at(1).get<std::int64_t>();
  REQUIRE(std::int64_t(bytes.size()) == height * width * channels);
  at::Tensor out = at::empty({height, width, channels}, at::kByte);
  std::memcpy(out.mutable_data_ptr(), bytes.data(), bytes.size());
  return out.permute({2, 0, 1});
}

std::int64_t off_by(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kLong) - b.to(at::kLong)).abs().max().item<std::int64_t>();
}

}  // namespace

TEST_CASE("images: every kind of PNG, JPEG, WebP and GIF has the pixels that Pillow opens",
          "[conformance][io]") {
  const auto golden = golden::read_json("images.json");
  fixtures::ScratchFolder scratch;
  const auto file = scratch.path / "image";
  for (const auto& image : golden.at("images")) {
    INFO(image.at("name").get<std::string>()
         << ", in Pillow " << image.at("mode").get<std::string>());
    io::write_text(file, golden::from_base64(image.at("file").get<std::string>()));
    CHECK(off_by(io::read_image(file, 3), pixels(image, "rgb", 3)) == 0);
    CHECK(off_by(io::read_image(file, 1), pixels(image, "grey", 1)) == 0);
  }
}

TEST_CASE("images: what Pillow refuses or libjpeg only warns of is refused with a reason",
          "[conformance][io]") {
  const auto golden = golden::read_json("images.json");
  fixtures::ScratchFolder scratch;
  const auto file = scratch.path / "image";
  const auto refusal = [&](const std::string& name, const auto& change) {
    for (const auto& image : golden.at("images")) {
      if (image.at("name") != name) continue;
      std::string bytes = golden::from_base64(image.at("file").get<std::string>());
      change(bytes);
      io::write_text(file, bytes);
      try {
        io::read_image(file, 3);
      } catch (const DataError& error) {
        return std::string(error.what());
      }
      return std::string("read");
    }
    return std::string("no such image");
  };
  using Catch::Matchers::Contains;
  // The sample precision of a frame header: 12 bits.
  CHECK_THAT(refusal("jpeg 4:4:4", [](std::string& b) { b[b.find("\xff\xc0") + 4] = 12; }),
             Contains("precision 12"));
  // Half of the scan: libjpeg would fill the rest with grey.
  CHECK_THAT(refusal("jpeg 4:4:4", [](std::string& b) { b.resize(b.size() - 40); }),
             Contains("JPEG"));
  CHECK_THAT(refusal("webp lossy RGB", [](std::string& b) { b.resize(b.size() - 40); }),
             Contains("WebP"));
  CHECK_THAT(refusal("gif 256 colours", [](std::string& b) { b.resize(b.size() - 40); }),
             Contains("GIF"));
  CHECK_THAT(refusal("gif 256 colours", [](std::string& b) { b.resize(20); }), Contains("GIF"));
  CHECK_THAT(
      refusal("gif frame beyond its screen", [](std::string& b) { b.replace(6, 4, 4, '\xff'); }),
      Contains("more than 2^27 pixels"));
  CHECK_THAT(refusal("png rgb 8", [](std::string& b) { b[60] ^= 1; }), Contains("PNG"));
}
