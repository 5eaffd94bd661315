// GaussianDiffusion: per-sample coefficients from the tables, and the elementwise maths on images.
// Results keep the memory format of the images that go in.
#include <ATen/ATen.h>

#include <mutex>

#include "diffusion/schedule.hpp"

namespace dkdm {
namespace {

// Columns of the coefficient matrix.
enum Column : std::int64_t {
  kAlphaBar,
  kAlphaBarPrev,
  kSqrtAlphaBar,
  kSqrtOneMinusAlphaBar,
  kSqrtRecipAlphaBar,
  kSqrtRecipm1AlphaBar,
  kPosteriorMeanX0,
  kPosteriorMeanXt,
  kPosteriorLogVariance,
  kLogVarianceOrigin,  // of v = 0
  kLogVarianceReach,   // what v = 1 adds
  kFixedLogVariance,
  kNotLast,  // 0 at t = 0, else 1
  kColumns
};

// config.variance_range "unit": v = 0 … 1 spans log posterior variance … log beta, else v = -1 … 1.
at::Tensor coefficient_matrix(const GaussianDiffusion::Tables& tables,
                              const DiffusionConfig& config) {
  const bool unit = config.variance_range == "unit";
  const bool fixed_large = config.variance == "fixed_large";
  const auto steps = static_cast<std::int64_t>(tables.beta.size());
  at::Tensor matrix = at::empty({steps, kColumns}, at::kDouble);
  double* row = matrix.mutable_data_ptr<double>();
  for (std::size_t t = 0; t < tables.beta.size(); ++t, row += kColumns) {
    const double upper = tables.log_beta[t], lower = tables.posterior_log_variance_clipped[t];
    row[kAlphaBar] = tables.alpha_bar[t];
    row[kAlphaBarPrev] = tables.alpha_bar_prev[t];
    row[kSqrtAlphaBar] = tables.sqrt_alpha_bar[t];
    row[kSqrtOneMinusAlphaBar] = tables.sqrt_one_minus_alpha_bar[t];
    row[kSqrtRecipAlphaBar] = tables.sqrt_recip_alpha_bar[t];
    row[kSqrtRecipm1AlphaBar] = tables.sqrt_recipm1_alpha_bar[t];
    row[kPosteriorMeanX0] = tables.posterior_mean_coef_x0[t];
    row[kPosteriorMeanXt] = tables.posterior_mean_coef_xt[t];
    row[kPosteriorLogVariance] = lower;
    row[kLogVarianceOrigin] = unit ? lower : (upper + lower) / 2;
    row[kLogVarianceReach] = unit ? upper - lower : (upper - lower) / 2;
    row[kFixedLogVariance] = fixed_large && t > 0 ? upper : lower;
    row[kNotLast] = t == 0 ? 0 : 1;
  }
  return matrix;
}

// Column `which` of the rows [N,kColumns], shaped to scale images of `dim` dimensions.
at::Tensor column(const at::Tensor& rows, Column which, std::int64_t dim) {
  std::vector<std::int64_t> sizes(static_cast<std::size_t>(dim), 1);
  sizes[0] = rows.size(0);
  return rows.select(1, which).view(sizes);
}

// a x + b y with per-sample a, b.
at::Tensor blend(const at::Tensor& a, const at::Tensor& x, const at::Tensor& b,
                 const at::Tensor& y) {
  return (x * a).addcmul_(y, b);
}

}  // namespace

struct GaussianDiffusion::DeviceTables {
  struct Copy {
    at::Tensor f64, f32, timestep_map;
  };

  DeviceTables(const Tables& tables, const std::vector<std::int64_t>& map,
               const DiffusionConfig& config) {
    const at::Tensor matrix = coefficient_matrix(tables, config);
    copies.push_back({matrix, matrix.to(at::kFloat), at::tensor(map, at::kLong)});
  }

  Copy on(const at::Device& device) {
    const std::lock_guard<std::mutex> lock(mutex);
    for (const Copy& copy : copies) {
      if (copy.f32.device() == device) return copy;
    }
    const Copy& host = copies.front();
    copies.push_back({host.f64.to(device), host.f32.to(device), host.timestep_map.to(device)});
    return copies.back();
  }

  // Coefficients of the steps t: f32 [N,kColumns].
  at::Tensor rows(const at::Tensor& t) { return on(t.device()).f32.index_select(0, t); }

  std::mutex mutex;
  std::vector<Copy> copies;  // the first is on the CPU
};

GaussianDiffusion::GaussianDiffusion(const DiffusionConfig& config) : config_(config) {
  if (config.variance != "fixed_large" && config.variance != "fixed_small") {
    throw ConfigError("diffusion.variance is \"" + config.variance +
                      "\", expected \"fixed_large\" or \"fixed_small\"");
  }
  if (config.variance_range != "centred" && config.variance_range != "unit") {
    throw ConfigError("diffusion.variance_range is \"" + config.variance_range +
                      "\", expected \"centred\" or \"unit\"");
  }
  const std::vector<double> all = diffusion::betas(config);
  timestep_map_ = respaced_steps(config.steps, config.respacing);
  if (timestep_map_.size() < 2) {
    throw ConfigError("respacing \"" + config.respacing +
                      "\" keeps one step, at least 2 are needed");
  }
  // Rebuilt from ratios even when every step is kept, as the reference does.
  tables_ = diffusion::make_tables(diffusion::respaced_betas(all, timestep_map_));
  device_tables_ = std::make_shared<DeviceTables>(tables_, timestep_map_, config);
}

std::int64_t GaussianDiffusion::num_steps() const {
  return static_cast<std::int64_t>(timestep_map_.size());
}

at::Tensor GaussianDiffusion::model_timesteps(const at::Tensor& t) const {
  if (num_steps() == config_.steps) return t;
  return device_tables_->on(t.device()).timestep_map.index_select(0, t);
}

at::Tensor GaussianDiffusion::q_sample(const at::Tensor& x0, const at::Tensor& t,
                                       const at::Tensor& eps) const {
  const at::Tensor rows = device_tables_->rows(t);
  return blend(column(rows, kSqrtAlphaBar, x0.dim()), x0,
               column(rows, kSqrtOneMinusAlphaBar, x0.dim()), eps);
}

at::Tensor GaussianDiffusion::posterior_mean(const at::Tensor& x0, const at::Tensor& x_t,
                                             const at::Tensor& t) const {
  const at::Tensor rows = device_tables_->rows(t);
  return blend(column(rows, kPosteriorMeanX0, x_t.dim()), x0,
               column(rows, kPosteriorMeanXt, x_t.dim()), x_t);
}

at::Tensor GaussianDiffusion::posterior_log_variance(const at::Tensor& t, std::int64_t dim) const {
  return column(device_tables_->rows(t), kPosteriorLogVariance, dim);
}

Distribution GaussianDiffusion::p_mean_variance(const at::Tensor& output, const at::Tensor& x_t,
                                                const at::Tensor& t, bool clip) const {
  const std::int64_t channels = x_t.size(1), dim = x_t.dim();
  if (output.dim() != dim || output.size(0) != x_t.size(0) ||
      (output.size(1) != channels && output.size(1) != 2 * channels) ||
      output.sizes().slice(2) != x_t.sizes().slice(2)) {
    throw Error("the network returned " + c10::str(output.sizes()) + " for an input of " +
                c10::str(x_t.sizes()) + "; expected the same size with C or 2C channels");
  }
  const at::Tensor rows = device_tables_->rows(t);
  const std::vector<at::Tensor> halves = output.to(at::kFloat).split(channels, 1);
  Distribution p;
  p.eps = halves[0];
  p.log_variance = halves.size() == 2 ? at::addcmul(column(rows, kLogVarianceOrigin, dim),
                                                    halves[1], column(rows, kLogVarianceReach, dim))
                                      : column(rows, kFixedLogVariance, dim).expand_as(x_t);
  p.pred_xstart = (x_t * column(rows, kSqrtRecipAlphaBar, dim))
                      .addcmul_(p.eps, column(rows, kSqrtRecipm1AlphaBar, dim), -1);
  if (clip) p.pred_xstart = p.pred_xstart.clamp(-1, 1);
  p.mean = blend(column(rows, kPosteriorMeanX0, dim), p.pred_xstart,
                 column(rows, kPosteriorMeanXt, dim), x_t);
  return p;
}

at::Tensor GaussianDiffusion::ancestral_step(const Distribution& p, const at::Tensor& t,
                                             const at::Tensor& z) const {
  const at::Tensor not_last = column(device_tables_->rows(t), kNotLast, p.mean.dim());
  return at::addcmul(p.mean, (0.5 * p.log_variance).exp_(), z * not_last);
}

at::Tensor GaussianDiffusion::ddim_step(const Distribution& p, const at::Tensor& x_t,
                                        const at::Tensor& t, double eta,
                                        const at::Tensor& z) const {
  const std::int64_t dim = x_t.dim();
  const at::Tensor rows = device_tables_->on(t.device()).f64.index_select(0, t);
  const at::Tensor alpha_bar = column(rows, kAlphaBar, dim);
  const at::Tensor prev = column(rows, kAlphaBarPrev, dim);
  const at::Tensor sigma =
      eta * ((1 - prev) / (1 - alpha_bar)).sqrt() * (1 - alpha_bar / prev).sqrt();
  // eps = (x_t - sqrt(alpha_bar) x0) / sqrt(1 - alpha_bar), put into Eq. 12: a blend of x0 and x_t.
  const at::Tensor of_eps = (1 - prev - sigma.square()).clamp_min(0).sqrt();
  const at::Tensor of_xt = of_eps / (1 - alpha_bar).sqrt();
  const at::Tensor of_x0 = prev.sqrt() - of_xt * alpha_bar.sqrt();
  at::Tensor x = blend(of_x0.to(at::kFloat), p.pred_xstart, of_xt.to(at::kFloat), x_t);
  // sigma is 0 at t = 0, where alpha_bar_prev is 1.
  return eta == 0 ? x : x.addcmul_(z, sigma.to(at::kFloat));
}

}  // namespace dkdm
