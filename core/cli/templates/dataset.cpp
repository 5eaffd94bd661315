// my-plugin: white discs, squares and crosses on black, drawn when they are asked for. The shape is
// the label; place and size of image i come from the random numbers of i.
#include <ATen/ATen.h>

#include <cstdlib>
#include <stdexcept>

#include "dkdm/boundary.hpp"
#include "dkdm/dataset.hpp"
#include "dkdm/files.hpp"
#include "dkdm/random.hpp"

namespace {

constexpr std::int64_t kShapes = 3;

// Whether the shape of radius r covers the pixel (x, y) from its middle.
bool covers(std::int64_t shape, std::int64_t x, std::int64_t y, std::int64_t r) {
  if (shape == 0) return x * x + y * y <= r * r;
  const std::int64_t dx = std::abs(x), dy = std::abs(y);
  if (shape == 1) return dx <= r && dy <= r;
  return (dx <= r / 3 && dy <= r) || (dy <= r / 3 && dx <= r);
}

class MyPlugin final : public dkdm::Dataset {
 public:
  static dkdm::ParamTable params() {
    return {dkdm::integer("size", 16, "side in pixels").between(8, 512),
            dkdm::integer("count", 8192, "images").between(1, 10000000)};
  }

  MyPlugin(const dkdm::Params& params, dkdm::Host&)
      : size_(params.integer("size")), count_(params.integer("count")) {}

  dkdm::ImageSpec spec() const override { return {1, size_, size_}; }
  std::int64_t size() const override { return count_; }
  std::int64_t num_classes() const override { return kShapes; }

  at::Tensor images(const at::Tensor& index) const override {
    const at::Tensor all = at::zeros({index.numel(), 1, size_, size_}, at::kByte);
    auto* pixel = all.mutable_data_ptr<std::uint8_t>();
    for (std::int64_t n = 0; n < index.numel(); ++n) {
      const std::int64_t i = index[n].item<std::int64_t>();
      if (i < 0 || i >= count_) throw std::out_of_range("image " + std::to_string(i));
      const auto words = random_.words(0, static_cast<std::uint64_t>(i), 0);
      const std::int64_t r = size_ / 8 + words[0] % (size_ / 5);
      const std::int64_t x0 = r + words[1] % (size_ - 2 * r), y0 = r + words[2] % (size_ - 2 * r);
      for (std::int64_t y = 0; y < size_; ++y)
        for (std::int64_t x = 0; x < size_; ++x, ++pixel)
          *pixel = covers(i % kShapes, x - x0, y - y0, r) ? 255 : 0;
    }
    return all;
  }
  at::Tensor labels(const at::Tensor& index) const override { return index.remainder(kShapes); }

  // All that decides a pixel.
  std::string fingerprint() const override {
    return dkdm::io::sha256("my-plugin 1 " + std::to_string(size_) + " " + std::to_string(count_));
  }

 private:
  std::int64_t size_, count_;
  dkdm::Random random_{/*seed=*/0, dkdm::Stream::augment};
};

}  // namespace

DKDM_DATASET("my-plugin", "1", "discs, squares and crosses, drawn on demand", MyPlugin)
