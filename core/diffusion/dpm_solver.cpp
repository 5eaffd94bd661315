// DPM-Solver++: the noise schedule as a function of continuous time, and the moves between times.
#include "diffusion/dpm_solver.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

namespace dkdm::diffusion {
namespace {

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

}  // namespace

std::vector<SolverStep> solver_steps(const GaussianDiffusion& process, std::int64_t steps) {
  const ContinuousSchedule schedule(process);
  const double last_time = 1.0 / static_cast<double>(schedule.size());
  const auto time = [&](std::int64_t i) {
    return std::lerp(1.0, last_time, static_cast<double>(i) / static_cast<double>(steps));
  };
  const auto lambda = [&](double t) {
    const double log_alpha = schedule.log_alpha(t);
    return log_alpha - log_sigma(log_alpha);
  };

  std::vector<SolverStep> moves;
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

}  // namespace dkdm::diffusion
