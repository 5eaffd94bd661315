// Training losses: the data-based hybrid loss (Nichol & Dhariwal 2021) and the distillation loss of
// the paper (Eq. 14, 19-21). Averages over C,H,W; KL and likelihood in bits.
#include <ATen/ATen.h>

#include <cmath>
#include <numbers>

#include "dkdm/diffusion.hpp"

namespace dkdm {
namespace {

at::Tensor mean_per_sample(const at::Tensor& x) {
  std::vector<std::int64_t> dims;
  for (std::int64_t d = 1; d < x.dim(); ++d) dims.push_back(d);
  return x.mean(dims);
}

// e^d - 1 - d and its derivative e^d - 1, neither as a difference of near-equal numbers: where two
// distributions nearly agree, f32 would leave no digit of e^d - 1, and other ones on other
// processors.
at::Tensor exp_excess(const at::Tensor& d) {
  const at::Tensor slope = at::expm1(d.detach());
  const at::Tensor value = slope - d.detach();
  return d.requires_grad() ? value + slope * (d - d.detach()) : value;
}

// KL(N(mean1, e^lv1) ‖ N(mean2, e^lv2)) per element, in nats.
at::Tensor normal_kl(const at::Tensor& mean1, const at::Tensor& log_variance1,
                     const at::Tensor& mean2, const at::Tensor& log_variance2) {
  const at::Tensor difference = log_variance1 - log_variance2;
  return 0.5 * (exp_excess(difference) + (mean1 - mean2).square() * (-log_variance2).exp());
}

// The reference's tanh approximation of the standard normal's cumulative distribution.
at::Tensor normal_cdf(const at::Tensor& z) {
  const double scale = std::sqrt(2 * std::numbers::inv_pi);
  return 0.5 * (1 + (scale * (z + 0.044715 * z.pow(3))).tanh());
}

// -ln P(x0) when N(mean, e^log_variance) is binned to the 256 grey levels of [-1,1]; the outermost
// bins reach to infinity. Nats per element.
at::Tensor decoder_nll(const at::Tensor& x0, const at::Tensor& mean,
                       const at::Tensor& log_variance) {
  const at::Tensor centred = x0 - mean;
  const at::Tensor inverse_sigma = (-0.5 * log_variance).exp();
  const at::Tensor upper = normal_cdf(inverse_sigma * (centred + 1.0 / 255));
  const at::Tensor lower = normal_cdf(inverse_sigma * (centred - 1.0 / 255));
  const at::Tensor probability =
      at::where(x0 < -0.999, upper, at::where(x0 > 0.999, 1 - lower, upper - lower));
  return -probability.clamp_min(1e-12).log();
}

// `nats` [N] with the rows of t = 0 replaced by the decoder likelihood of `image`.
at::Tensor decoded_at_zero(const at::Tensor& nats, const at::Tensor& t, const at::Tensor& image,
                           const at::Tensor& mean, const at::Tensor& log_variance) {
  // Few batches hold a t = 0. Asking is free on the CPU and a synchronisation elsewhere.
  const at::Tensor decodes = t == 0;
  if (t.is_cpu() && !decodes.any().item<bool>()) return nats;
  return at::where(decodes, mean_per_sample(decoder_nll(image, mean, log_variance)), nats);
}

at::Tensor squared_error(const at::Tensor& a, const at::Tensor& b) {
  return mean_per_sample((a - b).square());
}

// vb [N] in bits, or zeros when the output [N,C,H,W] carries no variance that could be trained.
LossTerms with_bound(const at::Tensor& mse, const at::Tensor& vb_bits, double weight) {
  if (!vb_bits.defined()) return {mse, mse.detach(), at::zeros_like(mse)};
  return {at::add(mse, vb_bits, weight), mse.detach(), vb_bits.detach()};
}

}  // namespace

LossTerms hybrid_loss(const GaussianDiffusion& process, const at::Tensor& output,
                      const at::Tensor& x0, const at::Tensor& x_t, const at::Tensor& t,
                      const at::Tensor& eps, double vb_weight, bool decode) {
  const Distribution p = process.p_mean_variance(output, x_t, t, /*clip=*/false);
  const at::Tensor mse = squared_error(eps, p.eps);
  if (output.size(1) == x_t.size(1)) return with_bound(mse, {}, vb_weight);

  // The bound trains the variance alone: the mean is detached.
  const at::Tensor mean = p.mean.detach();
  at::Tensor nats = mean_per_sample(normal_kl(process.posterior_mean(x0, x_t, t),
                                              process.posterior_log_variance(t, x_t.dim()), mean,
                                              p.log_variance));
  if (decode) nats = decoded_at_zero(nats, t, x0, mean, p.log_variance);
  return with_bound(mse, nats / std::numbers::ln2, vb_weight);
}

LossTerms distillation_loss(const GaussianDiffusion& process, const at::Tensor& output,
                            const at::Tensor& x_t, const at::Tensor& t, const Distribution& teacher,
                            bool student_clip, double lambda, const at::Tensor& x_prev) {
  const Distribution p = process.p_mean_variance(output, x_t, t, student_clip);
  const at::Tensor mse = squared_error(teacher.eps, p.eps);
  if (output.size(1) == x_t.size(1)) return with_bound(mse, {}, lambda);
  const at::Tensor mean = p.mean.detach();
  at::Tensor nats =
      mean_per_sample(normal_kl(teacher.mean, teacher.log_variance, mean, p.log_variance));
  if (x_prev.defined()) nats = decoded_at_zero(nats, t, x_prev, mean, p.log_variance);
  return with_bound(mse, nats / std::numbers::ln2, lambda);
}

}  // namespace dkdm
