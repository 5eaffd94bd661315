// A student or teacher network.
#pragma once

#include <torch/nn/module.h>

#include "dkdm/diffusion_types.hpp"
#include "dkdm/error.hpp"
#include "dkdm/image.hpp"

namespace dkdm {

// What a student is made for. Its t counts the steps of the whole process, whatever diffusion.respacing.
struct StudentContext {
  ImageSpec spec;
  DiffusionConfig diffusion;
};

class DKDM_API Denoiser : public torch::nn::Module {
 public:
  Denoiser();
  ~Denoiser() override;

  // x_t [N,C,S,S] f32, t [N] int64 or f32: original step index, 0 (least noise) … steps - 1.
  // Returns [N,2C,S,S]: eps prediction, then the variance fraction v (-1 … 1 spans posterior … beta),
  // or [N,C,S,S] for eps alone. Row n depends on row n of the input only.
  virtual torch::Tensor forward(const torch::Tensor& x_t, const torch::Tensor& t) = 0;
};

}  // namespace dkdm
