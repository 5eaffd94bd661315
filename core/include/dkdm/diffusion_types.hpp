// What is said of a diffusion process at every boundary; the process itself: dkdm/diffusion.hpp.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

namespace dkdm {

struct DiffusionConfig {
  std::string schedule = "cosine";      // "cosine" | "linear" | "scaled_linear"
  std::int64_t steps = 1000;            // T before respacing
  std::string respacing;                // "" = all; "50", "10,15,20", "ddim25"
  double beta_start = 0, beta_end = 0;  // of the linear ones; 0 = 1e-4 and 0.02, times 1000 / steps
  std::string variance = "fixed_large";  // where none is predicted: beta; "fixed_small": posterior
  // What v of a learned variance means: "centred" = -1 … 1 spans posterior variance … beta (the
  // authors' code), "unit" = 0 … 1 does (paper Eq. 12). A network keeps that of its training.
  std::string variance_range = "centred";
  bool operator==(const DiffusionConfig&) const = default;
};

// p(x_{t-1} | x_t) of a network. All [N,C,H,W] f32.
struct Distribution {
  at::Tensor mean, log_variance, pred_xstart, eps;
};

// Per-sample terms, each [N] f32, averaged over C,H,W; vb in bits per dimension. loss is what is
// minimised (its mean over N).
struct LossTerms {
  at::Tensor loss, mse, vb;
};

}  // namespace dkdm
