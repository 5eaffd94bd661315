// DPM-Solver++ (Lu et al. 2022), second order, multistep, uniform in time: as the authors' code
// calls it. Coefficients are float64.
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "diffusion/sampler_kind.hpp"
#include "plugin/call.hpp"

namespace dkdm::diffusion {
namespace {

// One network call at x and the move that follows it:
//   x0 = (x - sigma eps(x, time)) / alpha,  x <- coef_x x + coef_x0 x0 + coef_x0_prev (x0 of the
//   step before)
struct Move {
  double time;  // what the network is called with: a step index, not whole
  double alpha, sigma;
  double coef_x, coef_x0, coef_x0_prev;  // coef_x0_prev is 0 in the first step
};

constexpr double kLowestLambda = -5.1;
constexpr double kQuantile = 0.995;
constexpr std::int64_t kFewSteps = 10;  // below this the last move is of first order

// log sigma of log alpha, where alpha^2 + sigma^2 = 1.
double log_sigma(double log_alpha) { return 0.5 * std::log(-std::expm1(2 * log_alpha)); }

// log alpha at t in 1/N … 1: linear between t = k/N, where it is that of the kth step (from 1).
class ContinuousSchedule {
 public:
  explicit ContinuousSchedule(const GaussianDiffusion& process) {
    double log_alpha = 0;
    for (const double beta : process.tables().beta) {
      log_alpha += 0.5 * std::log1p(-beta);
      if (log_alpha - log_sigma(log_alpha) < kLowestLambda) break;  // falls with every step
      log_alpha_.push_back(log_alpha);
    }
  }

  std::int64_t size() const { return static_cast<std::int64_t>(log_alpha_.size()); }
  double log_alpha(double t) const {
    const double place = t * static_cast<double>(size()) - 1;  // in 0 … N-1
    const auto below = std::clamp<std::int64_t>(static_cast<std::int64_t>(place), 0, size() - 2);
    const auto i = static_cast<std::size_t>(below);
    return std::lerp(log_alpha_[i], log_alpha_[i + 1], place - static_cast<double>(below));
  }

 private:
  std::vector<double> log_alpha_;
};

// `steps` (at least 2) moves over the steps of `process` whose log(alpha / sigma) is at least -5.1:
// the reference's guard for schedules that end in pure noise, which drops the last 4 of 1000 cosine
// steps. Time runs uniformly from 1 to 1/N over the N that are left and stretches over all T
// labels. With fewer than 10 steps the last move is of first order.
std::vector<Move> moves_of(const GaussianDiffusion& process, std::int64_t steps) {
  const ContinuousSchedule schedule(process);
  const double last_time = 1.0 / static_cast<double>(schedule.size());
  const auto time = [&](std::int64_t i) {
    return std::lerp(1.0, last_time, static_cast<double>(i) / static_cast<double>(steps));
  };
  const auto lambda = [&](double t) {
    const double log_alpha = schedule.log_alpha(t);
    return log_alpha - log_sigma(log_alpha);
  };

  std::vector<Move> moves;
  for (std::int64_t i = 0; i < steps; ++i) {
    const double from = time(i), to = time(i + 1);
    const double sigma = std::exp(log_sigma(schedule.log_alpha(from)));
    const double next_sigma = std::exp(log_sigma(schedule.log_alpha(to)));
    const double h = lambda(to) - lambda(from);
    const double gain = -std::exp(schedule.log_alpha(to)) * std::expm1(-h);
    // The second order extrapolates x0 linearly in lambda to the middle of the move.
    const bool second = i > 0 && !(steps < kFewSteps && i == steps - 1);
    const double ahead = second ? 0.5 * h / (lambda(from) - lambda(time(i - 1))) : 0;
    moves.push_back({(from - last_time) * static_cast<double>(process.num_steps()),
                     std::exp(schedule.log_alpha(from)), sigma, next_sigma / sigma,
                     gain * (1 + ahead), -gain * ahead});
  }
  return moves;
}

// Dynamic thresholding (Saharia et al. 2022): each sample of x0 [N,…] clamped to ±s and divided by
// s, s the 0.995 quantile of its absolute values, or 1 where that is less.
at::Tensor dynamic_threshold(const at::Tensor& x0) {
  const at::Tensor sizes = x0.flatten(1).abs();
  const std::int64_t count = sizes.size(1);
  // The quantile lies between two order statistics, both among the few largest.
  const double place = kQuantile * static_cast<double>(count - 1);
  const auto below = static_cast<std::int64_t>(place);
  const at::Tensor largest = std::get<0>(sizes.topk(count - below, 1));
  const at::Tensor low = largest.select(1, count - below - 1);
  const at::Tensor high = largest.select(1, std::max<std::int64_t>(count - below - 2, 0));
  std::vector<std::int64_t> shape(static_cast<std::size_t>(x0.dim()), 1);
  shape[0] = x0.size(0);
  const at::Tensor s =
      at::lerp(low, high, place - static_cast<double>(below)).clamp_min(1).view(shape);
  return at::minimum(at::maximum(x0, -s), s).div_(s);
}

class DpmSolver final : public SamplerRun {
 public:
  DpmSolver(const GaussianDiffusion& process, const SamplerConfig& config)
      : clip_(config.clip_denoised) {
    if (config.solver_steps < 2)
      throw ConfigError("solver_steps is " + std::to_string(config.solver_steps) +
                        ", expected at least 2");
    if (process.num_steps() != process.config().steps)
      throw ConfigError(
          "dpm-solver takes its own times out of the whole chain, but respacing is \"" +
          process.config().respacing + "\"; expected \"\"");
    moves_ = moves_of(process, config.solver_steps);
  }

  at::Tensor step(Denoiser& network, const at::Tensor& x, std::int64_t index,
                  const NoiseSource&) override {
    const Move& move = moves_[static_cast<std::size_t>(index)];
    const at::Tensor t = at::full({x.size(0)}, move.time, x.options());
    const at::Tensor eps = plugin::predict(network, x, t).narrow(1, 0, x.size(1)).to(at::kFloat);
    at::Tensor x0 = (x / move.alpha).sub_(eps, move.sigma / move.alpha);
    if (clip_) x0 = dynamic_threshold(x0);
    at::Tensor next = (x * move.coef_x).add_(x0, move.coef_x0);
    if (move.coef_x0_prev != 0) next.add_(x0_prev_, move.coef_x0_prev);
    x0_prev_ = x0;
    return next;
  }

 private:
  const bool clip_;
  std::vector<Move> moves_;
  at::Tensor x0_prev_;
};

}  // namespace

SamplerKind dpm_solver_sampler() {
  SamplerKind kind;
  kind.name = "dpm-solver";
  kind.paper = "DPM-Solver++, Lu et al. 2022";
  kind.uses_solver_steps = true;
  kind.uses_respacing = false;
  kind.steps = [](const GaussianDiffusion&, const SamplerConfig& config) {
    return config.solver_steps;
  };
  kind.begin = &begin<DpmSolver>;
  return kind;
}

}  // namespace dkdm::diffusion
