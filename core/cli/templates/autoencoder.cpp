// my-plugin: the discrete cosine transform of square blocks, as JPEG has it, of which the lowest
// frequencies are kept: an autoencoder that needs no training. Its basis is orthonormal, so encode
// and decode are one matrix and its transpose. One of trained networks instead: register them in
// the constructor and read them in load_weights, by io::load_strictly of dkdm/checkpoint.hpp.
#include <ATen/ATen.h>

#include <cmath>
#include <numbers>

#include "dkdm/autoencoder.hpp"
#include "dkdm/boundary.hpp"
#include "dkdm/files.hpp"

namespace {

using at::Tensor;
using dkdm::ConfigError;

class MyPlugin final : public dkdm::Autoencoder {
 public:
  static dkdm::ParamTable params() {
    return {dkdm::integer("block", 4, "side of a block, in pixels").between(1, 64),
            dkdm::integer("keep", 2, "frequencies of each axis that are kept").between(1, 64),
            dkdm::integer("channels", 3, "of the images").between(1, 64),
            dkdm::real("step", 1. / 16, "to which `quantise` rounds latents").between(1e-6, 1)};
  }

  MyPlugin(const dkdm::Params& params, dkdm::Host&)
      : block_(params.integer("block")), keep_(params.integer("keep")),
        channels_(params.integer("channels")), step_(params.real("step")),
        fingerprint_(dkdm::io::sha256(params.canonical())) {
    if (keep_ > block_)
      throw ConfigError("keep = " + std::to_string(keep_), "expected at most the block's side");
    // Row k of one axis: cos(pi (2 i + 1) k / (2 block)) over i, of norm 1.
    const Tensor k = at::arange(keep_, at::kDouble).unsqueeze(1);
    const Tensor i = at::arange(block_, at::kDouble).unsqueeze(0);
    const Tensor axis = at::cos(std::numbers::pi * (2 * i + 1) * k / (2 * block_));
    const Tensor rows = axis / axis.norm(2, {1}, /*keepdim=*/true);
    basis_ = register_buffer("basis", at::kron(rows, rows).to(at::kFloat));
  }

  dkdm::SampleShape latent_shape(const dkdm::ImageSpec& image) const override {
    if (image.channels != channels_ || !image.is_divisible_by(block_))
      throw ConfigError("my-plugin: images of " + text_of(image) + ", expected " +
                        std::to_string(channels_) + " channels and sides that are multiples of " +
                        std::to_string(block_));
    return {channels_ * keep_ * keep_, image.height / block_, image.width / block_};
  }

  dkdm::ImageSpec image_shape(const dkdm::SampleShape& latent) const override {
    if (latent.channels != channels_ * keep_ * keep_)
      throw ConfigError("my-plugin: latents of " + text_of(latent) + ", expected " +
                        std::to_string(channels_ * keep_ * keep_) + " channels");
    return {channels_, latent.height * block_, latent.width * block_};
  }

  std::string fingerprint() const override { return fingerprint_; }

  // One image at a time, so that an image's bits are its own. Divided by the block's side, since a
  // block that is all 1 has that as its first value: latents are about as large as images.
  Tensor encode(const Tensor& images) override {
    const auto h = images.size(2) / block_, w = images.size(3) / block_;
    return in_chunks(images, 1, [&](const Tensor& image) {
      const Tensor blocks = image.reshape({channels_, h, block_, w, block_})
                                .permute({1, 3, 0, 2, 4})
                                .reshape({h * w * channels_, block_ * block_});
      return (blocks.mm(basis_.t()) / block_)
          .view({1, h, w, channels_ * keep_ * keep_})
          .permute({0, 3, 1, 2});
    });
  }

  Tensor decode(const Tensor& latents, bool quantise) override {
    const auto h = latents.size(2), w = latents.size(3);
    return in_chunks(latents, 1, [&](const Tensor& latent) {
      const Tensor values = quantise ? (latent / step_).round() * step_ : latent;
      const Tensor rows = values.permute({0, 2, 3, 1}).reshape({-1, keep_ * keep_});
      return (rows.mm(basis_) * block_)
          .view({h, w, channels_, block_, block_})
          .permute({2, 0, 3, 1, 4})
          .reshape({1, channels_, h * block_, w * block_});
    });
  }

 private:
  std::int64_t block_, keep_, channels_;
  double step_;
  std::string fingerprint_;
  Tensor basis_;  // [keep * keep, block * block]
};

}  // namespace

DKDM_AUTOENCODER("my-plugin", "1", "the lowest frequencies of image blocks", MyPlugin)
