// The first stage of latent diffusion (Rombach et al. 2022, Sec. 3.1): images to latents, in which
// the process, the teacher and the student live, and back. An autoencoder's life: made (nothing is
// read, shapes are known) -> load_weights -> moved by the host (Module::to) -> encode and decode,
// in evaluation mode and without gradients. Threads: the host calls one from one.
#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <functional>
#include <string>

#include "dkdm/host.hpp"
#include "dkdm/shape.hpp"

namespace dkdm {

class DKDM_API Autoencoder : public torch::nn::Module {
 public:
  Autoencoder();
  ~Autoencoder() override;

  // The shape of an image's latent, and that of the image which a latent is of. ConfigError, which
  // says what can be, for a shape that cannot.
  virtual SampleShape latent_shape(const ImageSpec& image) const = 0;
  virtual ImageSpec image_shape(const SampleShape& latent) const = 0;

  // Changes whenever the weights or their meaning do; known without loading them. Input of keys.
  virtual std::string fingerprint() const = 0;

  // Gives the parameters their values, once. DataError for a file that is absent or does not fit.
  virtual void load_weights() {}

  // images f32 [N,C,H,W] in [-1,1] -> latents f32 [N,c,h,w], as diffusion is trained on them.
  virtual at::Tensor encode(const at::Tensor& images) = 0;
  // latents f32 [N,c,h,w] -> images f32 [N,C,H,W], about [-1,1] and not clamped. `quantise`: of
  // their nearest codes, where there is a codebook.
  virtual at::Tensor decode(const at::Tensor& latents, bool quantise = true) = 0;
  // Of both: N is any number, in the memory of a few (in_chunks). Row n is a function of row n, to
  // the bit, whatever the batch. The input is where the module is, and stays as it was; what is
  // made follows its options().

 protected:
  // work(rows) for `count` rows of `input` [N,…] at a time, its results [count,…] joined. `work`
  // always gets `count` rows, the last ones filled up with zeros, since kernels are chosen by the
  // size of a batch and differ in last bits. No rows make one call, for the result's shape.
  static at::Tensor in_chunks(const at::Tensor& input, std::int64_t count,
                              const std::function<at::Tensor(const at::Tensor& rows)>& work);
};

}  // namespace dkdm
