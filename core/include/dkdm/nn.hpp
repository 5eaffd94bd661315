// Blocks that student architectures share.
#pragma once

#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/nn/module.h>

#include <cstdint>

#include "dkdm/error.hpp"

namespace dkdm::nn {

// cos(t f_k) and sin(t f_k), each f32 [N, count], of t [N] and the frequencies
// f_k = exp(-ln(10000) k / span), k = 0 … count - 1. The same bits on every processor: f_k is
// rounded to f32 once, from f64; the phase t f_k is one f32 product, as in the references; its
// cosine and sine are rounded from f64 (from f32 on a device without it). At t = 999 the last bit
// of an f32 exp, which differs between processors, would be 6e-5 of a phase.
struct Sinusoid {
  torch::Tensor cos, sin;
};
DKDM_API Sinusoid sinusoid(const torch::Tensor& t, std::int64_t count, double span);

// Sinusoid of t [N] -> f32 [N, dim]: all cosines, then all sines, of span dim/2. dim must be even.
DKDM_API torch::Tensor timestep_embedding(const torch::Tensor& t, std::int64_t dim);

// Group normalisation of x [N,C,…]: (x - mean) / sqrt(variance + eps) * weight + bias, mean and
// biased variance over each sample's C/groups neighbouring channels and all that follows them;
// weight and bias [C] or undefined. The result has x's dtype, and channels-last memory where x has
// it. Exact to the rounding of x wherever a group's mean lies: at::group_norm loses the variance of
// channels-last images as E[x^2] - E[x]^2 on the CPU. An operator of LibTorch's dispatcher
// (dkdm::group_norm), with a gradient. Throws ConfigError unless C is a multiple of groups.
DKDM_API torch::Tensor group_norm(const torch::Tensor& x, std::int64_t groups,
                                  const torch::Tensor& weight = {}, const torch::Tensor& bias = {},
                                  double eps = 1e-5);

// torch::nn::GroupNorm on `group_norm`: the same names, order and initial values of its parameters.
class DKDM_API GroupNorm : public torch::nn::Module {
 public:
  GroupNorm(std::int64_t groups, std::int64_t channels, double eps = 1e-5);
  torch::Tensor forward(const torch::Tensor& x);  // [N,channels,…]
  torch::Tensor weight, bias;                     // [channels], at first 1 and 0

 private:
  std::int64_t groups_;
  double eps_;
};

// A layer with random numbers in training that are counter-based: those of sample i at a step
// depend on (seed, step, layer, i) alone, whatever the batch, the threads and what was drawn
// before. Nothing of them needs saving: a continued run sees the same ones.
class DKDM_API SeededLayer : public torch::nn::Module {
 public:
  virtual void seed(std::uint64_t seed, std::uint32_t step, std::uint32_t layer,
                    std::int64_t first_sample);
  // In training mode and seeded. Elsewhere a network is a function of its input.
  bool draws() const { return seeded_ && is_training(); }

 protected:
  std::uint64_t seed_ = 0;
  std::uint32_t step_ = 0, layer_ = 0;
  std::int64_t first_sample_ = 0;

 private:
  bool seeded_ = false;
};

// Seeds every SeededLayer below `module` for one training step, as the training loop does before
// each; layers are numbered in registration order. `first_sample` is the index of the batch's first
// row in the global batch.
DKDM_API void seed_layers(torch::nn::Module& module, std::uint64_t seed, std::int64_t step,
                          std::int64_t first_sample = 0);

// The identity unless it draws, and with p = 0.
class DKDM_API Dropout : public SeededLayer {
 public:
  explicit Dropout(double p);
  torch::Tensor forward(const torch::Tensor& x);  // x [N, …]

 private:
  double p_;
};

// Random numbers for anything else (added noise, stochastic depth, masking): register one and ask
// it in forward, `if (noise_->draws()) h = h + noise_->normal(h)`. Every call of a forward gives
// others. Throws Error where it does not draw.
class DKDM_API RandomLayer : public SeededLayer {
 public:
  torch::Tensor normal(const torch::Tensor& like);   // standard normal, f32, of like's shape [N, …]
  torch::Tensor uniform(const torch::Tensor& like);  // f64 [N] in [0,1), one a sample
  torch::Tensor mask(const torch::Tensor& like, double p);  // f32 0 and 1/(1-p), as dropout's

  void seed(std::uint64_t seed, std::uint32_t step, std::uint32_t layer,
            std::int64_t first_sample) override;

 private:
  std::int64_t next_call();  // its place among the layers' calls of this step
  std::int64_t calls_ = 0;
};

// Float32 while it lives, whatever the network computes in ([train] precision): for what rounding
// harms, the time embedding and the output layers. What comes from elsewhere goes through in_full.
class FullPrecision {
  c10::impl::ExcludeDispatchKeyGuard no_autocast_{c10::autocast_dispatch_keyset};
};
// `x` as f32 where it has fewer bits.
DKDM_API torch::Tensor in_full(const torch::Tensor& x);

// How q, k and v lie in the channels: q | k | v, each made of the heads' runs of channels; or
// (guided-diffusion's legacy order) a run of each head's q | k | v.
enum class QkvOrder { parts_first, heads_first };

// Softmax attention over tokens: qkv [N, L, 3*D], scale 1/sqrt(D/heads). Returns [N, L, D], the
// heads one after another.
DKDM_API torch::Tensor self_attention(const torch::Tensor& qkv, std::int64_t heads,
                                      QkvOrder order = QkvOrder::parts_first);

// Sets every parameter of `module` to zero (the reference's zero_module).
DKDM_API void zero_parameters(torch::nn::Module& module);

}  // namespace dkdm::nn
