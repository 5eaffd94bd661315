// Definition: factor.hpp.
#include "metrics/factor.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>

#include "dkdm/variances.hpp"

namespace dkdm::metrics {
namespace {

constexpr double kEpsilon = std::numeric_limits<double>::epsilon();
constexpr std::int64_t kPanel = 64;
constexpr std::int64_t kSmall = 128;
// Of Newton's iteration: 9 suffice for the worst that float64 holds (Kielbasinski & Zietak 2003).
constexpr int kMostSteps = 15;
// In norm; a singular value's error e becomes e^2 / 2 by a step, so Q is right to 5e-11 at worst,
// and to 1e-14 when the errors are spread over many.
constexpr double kPolarChange = 1e-5;
constexpr double kDefinite = 1e-10;  // least pivot of variances near 1

// Powers of two near the square roots of the variances, 1 for none.
at::Tensor scales(const at::Tensor& variances) {
  return at::where(variances > 0, variances.log2().mul(0.5).round().exp2(),
                   at::ones_like(variances));
}

// Chosen columns of a panel, or fewer where the matrix is used up: pivots among rows of `left`,
// columns of the factor for them.
struct Panel {
  at::Tensor columns;  // [m,chosen]
  at::Tensor kept;     // bool [m]: rows that were no pivot
  bool last = false;
};

Panel factor_panel(const at::Tensor& left, double tolerance) {
  const auto rows = left.size(0), width = std::min(kPanel, rows);
  Panel panel{at::zeros({rows, width}, at::kDouble), at::ones({rows}, at::kBool)};
  auto variance = left.diagonal().clone();
  std::int64_t chosen = 0;
  for (; chosen < width; ++chosen) {
    // Once the variances left are rounding, they are of both signs.
    const auto open = variance.masked_select(panel.kept);
    const double least = open.min().item<double>();
    const auto pivot =
        variance.masked_fill(panel.kept.logical_not(), -1).argmax().item<std::int64_t>();
    const double largest = variance[pivot].item<double>();
    if (least < -kRoundedVariance)
      throw std::invalid_argument(
          "not a valid covariance matrix: given the other features, a variance "
          "is " +
          std::to_string(least) + " of its feature's");
    if (largest <= std::max(tolerance, -4 * least)) {
      panel.last = true;
      break;
    }
    const auto before = panel.columns.narrow(1, 0, chosen);
    auto column = left.select(1, pivot) - before.mv(before[pivot]);
    column.mul_(panel.kept).div_(std::sqrt(largest));
    column[pivot] = std::sqrt(largest);
    variance.sub_(column.square());
    panel.columns.select(1, chosen).copy_(column);
    panel.kept[pivot] = false;
  }
  panel.columns = panel.columns.narrow(1, 0, chosen);
  return panel;
}

// At least the largest singular value, at most sqrt(n) times it.
double largest_bound(const at::Tensor& matrix) {
  const auto absolute = matrix.abs();
  return std::sqrt(absolute.sum(0).max().item<double>() * absolute.sum(1).max().item<double>());
}

// Q of the polar decomposition M = Q H of a square matrix; none where M is singular.
std::optional<at::Tensor> polar_factor(const at::Tensor& matrix) {
  at::Tensor q = matrix;
  double least = 0, most = 0;  // bounds of q's singular values
  for (int step = 0; step < kMostSteps; ++step) {
    const auto [inverse, info] = at::linalg_inv_ex(q);
    if (info.item<int>() != 0) return std::nullopt;
    if (step == 0) {
      most = largest_bound(q);
      least = 1 / largest_bound(inverse);
    }
    const double scale = 1 / std::sqrt(least * most), ratio = std::sqrt(most / least);
    const auto next = q.mul(scale / 2).add_(inverse.t(), 0.5 / scale);
    least = 1;
    most = (ratio + 1 / ratio) / 2;
    const double change = (next - q).norm().item<double>();
    if (!std::isfinite(change)) return std::nullopt;
    q = next;
    if (change < kPolarChange) return q;
  }
  return std::nullopt;
}

// Cholesky's factor of a matrix that is definite by more than rounding.
std::optional<at::Tensor> definite_factor(const at::Tensor& matrix) {
  const auto [factor, info] = at::linalg_cholesky_ex(matrix);
  if (info.item<int>() != 0 || factor.diagonal().square().min().item<double>() < kDefinite)
    return std::nullopt;
  return factor;
}

}  // namespace

at::Tensor covariance_factor(const at::Tensor& covariance) {
  if (!covariance.isfinite().all().item<bool>())
    throw std::invalid_argument("a covariance is not finite");
  const auto full = covariance.to(at::kCPU, at::kDouble, /*non_blocking=*/false, /*copy=*/true);
  if (const auto fault = variance_fault(full.diagonal()); !fault.empty())
    throw std::invalid_argument("not a valid covariance matrix: " + fault);
  full.diagonal().clamp_min_(0);
  const auto size = full.size(0);
  const auto scale = scales(full.diagonal());
  auto left = full / scale / scale.unsqueeze(1);
  if (const auto factor = definite_factor(left)) return *factor * scale.unsqueeze(1);
  auto factor = at::zeros({size, size}, at::kDouble);
  auto rows = at::arange(size, at::kLong);
  const double tolerance = double(size) * kEpsilon;
  std::int64_t rank = 0;
  while (rows.size(0) > 0) {
    const Panel panel = factor_panel(left, tolerance);
    const auto chosen = panel.columns.size(1);
    factor.narrow(1, rank, chosen).index_copy_(0, rows, panel.columns);
    rank += chosen;
    if (panel.last) break;
    const auto kept = panel.kept.nonzero().flatten();
    rows = rows.index_select(0, kept);
    const auto columns = panel.columns.index_select(0, kept);
    left = left.index_select(0, kept).index_select(1, kept);
    left.addmm_(columns, columns.t(), /*beta=*/1, /*alpha=*/-1);
  }
  return factor.narrow(1, 0, rank) * scale.unsqueeze(1);
}

at::Tensor nearest_isometry(const at::Tensor& matrix) {
  if (matrix.size(1) > kSmall) {
    // Square by M = Q R: the isometry of R, turned back.
    if (matrix.size(0) > matrix.size(1)) {
      const auto [turn, square] = at::linalg_qr(matrix);
      if (const auto q = polar_factor(square)) return turn.mm(*q);
    } else if (const auto q = polar_factor(matrix)) {
      return *q;
    }
  }
  const auto [left, values, right] = at::linalg_svd(matrix, /*full_matrices=*/false);
  return left.mm(right);
}

}  // namespace dkdm::metrics
