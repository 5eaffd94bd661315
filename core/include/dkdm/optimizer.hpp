// AdamW with an exponential moving average of the weights, over all parameters at once. Threads:
// one at a time.
#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "dkdm/method.hpp"
#include "dkdm/params.hpp"

namespace dkdm::train {

// Learning rate of step `step` (0, 1, …): linear warm-up over `warmup_steps`, then constant, or to
// zero at `steps` by a cosine or a line ([train] lr, warmup_steps, lr_decay, steps).
DKDM_API double learning_rate(const Params& settings, std::int64_t step);

// EMA decay of step `step`: [train] ema, or with ema_warmup min(ema, (1 + n) / (10 + n)), n = step,
// or step + 1 with "ldm" (LitEma of latent diffusion): a short run's average then forgets its
// initial weights.
DKDM_API double ema_decay(const Params& settings, std::int64_t step);

// What is left of the initial weights in the average after all [train] steps: the product of the
// decays.
DKDM_API double ema_remainder(const Params& settings);

// A sentence for a person where that is more than a tenth, with the figure and the decay that would
// leave a hundredth; "" where the budget is long enough.
DKDM_API std::string ema_warning(const Params& settings);

// Decoupled weight decay (Loshchilov & Hutter 2019), bias-corrected, one fused call a step. Keeps
// moments and EMA in the parameters' own memory format. Parameters without requires_grad are
// averaged as they are and not trained.
class DKDM_API Optimizer {
 public:
  // `network` must outlive the optimiser and keep its parameters' storage. `part` is a method's own
  // network that is trained along; its tensors are named "method/NAME" in `state`, and are no
  // weights.
  Optimizer(torch::nn::Module& network, const Params& settings, const TrainedPart& part = {});

  // What to take the gradient of for `loss` (a scalar): itself, or in fp16 itself times the loss
  // scale, which is divided out again here. Gradients of fp16 networks would be lost below 6e-8.
  at::Tensor scaled(const at::Tensor& loss) const;
  // Global L2 norm of the gradients of `loss`, f32 scalar tensor.
  at::Tensor grad_norm() const;
  // Clips (settings' grad_clip > 0) by `norm`, steps, updates the EMA and drops the gradients. In
  // fp16 a norm that is not finite is an overflow: nothing is updated, and the scale is halved;
  // otherwise it grows by 2^0.001 (the authors' code). Nobody waits to know.
  void step(std::int64_t step, const at::Tensor& norm);
  // log2 of the loss scale, a f64 scalar on the device that starts at 20; undefined unless fp16.
  const at::Tensor& log2_loss_scale() const { return log2_scale_; }

  // "param/NAME", "ema/NAME", "exp_avg/NAME", "exp_avg_sq/NAME", and in fp16 "loss_scale/log2" and
  // "loss_scale/skipped".
  std::map<std::string, at::Tensor> state() const;
  // Throws DataError(`where`) listing missing, extra or misshapen keys.
  void restore(const std::map<std::string, at::Tensor>& state, const std::string& where);

  // NAME -> tensor, of the network's raw or averaged weights.
  std::map<std::string, at::Tensor> weights(bool ema) const;
  // The part's weights by NAME, its averages (where it has them) by "ema/NAME".
  std::map<std::string, at::Tensor> part_weights() const;

 private:
  std::vector<std::pair<std::string, std::vector<at::Tensor>>> slots() const;
  std::vector<at::Tensor> gradients() const;

  Params settings_;
  void add(torch::nn::Module& network, const std::string& prefix, bool averaged);

  std::vector<std::string> names_;  // of all parameters, in registration order, the part's last
  // Parallel to names_; values_ are the parameters' storage outside autograd.
  std::vector<at::Tensor> all_, values_;
  std::vector<std::size_t> trained_;               // indices of those that require a gradient
  std::vector<std::size_t> averaged_;              // indices of those with an average
  std::vector<at::Tensor> ema_, averaged_values_;  // parallel to averaged_
  std::size_t network_count_ = 0;                  // the network's own are the first of names_
  std::vector<at::Tensor> parameters_, exp_avg_, exp_avg_sq_, step_count_;
  // Of fp16, on the device: the loss scale, and how many steps were skipped, of which Adam's bias
  // correction counts none.
  at::Tensor log2_scale_, skipped_;
};

}  // namespace dkdm::train
