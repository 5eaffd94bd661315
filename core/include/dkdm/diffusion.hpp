// The Gaussian diffusion process: schedules, respacing, posterior, model distribution, losses.
// Reference: guided-diffusion's gaussian_diffusion.py and respace.py as the paper's code uses them
// (Eq. 1-14). Steps count t = 0 … T-1; the paper's t is this t + 1. Tables are float64; a
// per-sample coefficient is the table's entry cast to f32. Symbols: core/notation.md. Threads: any.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "dkdm/diffusion_types.hpp"
#include "dkdm/error.hpp"

namespace dkdm {

// Kept original indices, ascending. Throws ConfigError for a section string that cannot be met.
DKDM_API std::vector<std::int64_t> respaced_steps(std::int64_t steps, const std::string& respacing);

class DKDM_API GaussianDiffusion {
 public:
  explicit GaussianDiffusion(const DiffusionConfig& config);

  const DiffusionConfig& config() const { return config_; }
  std::int64_t num_steps() const;  // T' after respacing
  const std::vector<std::int64_t>& timestep_map() const { return timestep_map_; }
  // t [N] int64 in 0 … T'-1 -> the original indices that the network is called with.
  at::Tensor model_timesteps(const at::Tensor& t) const;

  // Float64 tables, one entry a (respaced) step.
  struct Tables {
    std::vector<double> beta, alpha_bar, alpha_bar_prev, log_beta;
    std::vector<double> sqrt_alpha_bar, sqrt_one_minus_alpha_bar;
    std::vector<double> sqrt_recip_alpha_bar, sqrt_recipm1_alpha_bar;
    std::vector<double> posterior_variance, posterior_log_variance_clipped;
    std::vector<double> posterior_mean_coef_x0, posterior_mean_coef_xt;
  };
  const Tables& tables() const { return tables_; }

  // sqrt(alpha_bar_t) x0 + sqrt(1 - alpha_bar_t) eps.
  at::Tensor q_sample(const at::Tensor& x0, const at::Tensor& t, const at::Tensor& eps) const;
  at::Tensor posterior_mean(const at::Tensor& x0, const at::Tensor& x_t, const at::Tensor& t) const;
  // Log of the posterior variance, entry 0 replaced by entry 1: [N,1,…] of `dim` dimensions.
  at::Tensor posterior_log_variance(const at::Tensor& t, std::int64_t dim) const;

  // From a network's output [N,2C,H,W] (learned variance range, Eq. 12; v by
  // config().variance_range) or [N,C,H,W] (config().variance: the log of beta, or of the posterior
  // variance; in both entry 0 is replaced by posterior_variance[1]). `clip` clamps pred_xstart to
  // [-1,1]; `eps` is the raw prediction either way.
  Distribution p_mean_variance(const at::Tensor& output, const at::Tensor& x_t, const at::Tensor& t,
                               bool clip) const;

  // x_{t-1} = mean + [t != 0] exp(log_variance / 2) z.
  at::Tensor ancestral_step(const Distribution& p, const at::Tensor& t, const at::Tensor& z) const;
  // DDIM (Song et al. 2021, Eq. 12), eps re-derived from p.pred_xstart. eta 0 = deterministic.
  at::Tensor ddim_step(const Distribution& p, const at::Tensor& x_t, const at::Tensor& t,
                       double eta, const at::Tensor& z) const;

 private:
  struct DeviceTables;  // copies on the devices that asked, made once

  DiffusionConfig config_;
  std::vector<std::int64_t> timestep_map_;
  Tables tables_;
  std::shared_ptr<DeviceTables> device_tables_;
};

// Data-based hybrid loss L_simple + L_vb: mse of eps, plus the variational bound with the mean
// detached, pred_xstart not clipped. With an output of C channels vb is zero. `vb_weight`
// multiplies vb (1 = reference at T = 1000). At t = 0 the bound is the decoder likelihood, or with
// `decode` false the same KL as elsewhere (Eq. 9 as printed).
DKDM_API LossTerms hybrid_loss(const GaussianDiffusion& process, const at::Tensor& output,
                               const at::Tensor& x0, const at::Tensor& x_t, const at::Tensor& t,
                               const at::Tensor& eps, double vb_weight, bool decode = true);

// Distillation loss, Eq. 14 and 19-21: mse of eps against the teacher's, plus lambda times
// KL(teacher ‖ student) in bits at every t, the student's mean detached. `teacher` was made with
// its own clipping; `student_clip` false is the authors' code (core/diffusion/README.md). With
// `x_prev` [N,C,H,W] defined, rows of t = 0 have the decoder likelihood of x_prev (the teacher's
// image) in place of the KL.
DKDM_API LossTerms distillation_loss(const GaussianDiffusion& process, const at::Tensor& output,
                                     const at::Tensor& x_t, const at::Tensor& t,
                                     const Distribution& teacher, bool student_clip, double lambda,
                                     const at::Tensor& x_prev = {});

}  // namespace dkdm
