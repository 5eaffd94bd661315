// Squared distances come from f32 matrix products of centred features, as lower bounds: |u|^2 +
// |v|^2 - 2 u.v less what its rounding can be (Higham 2002, eq. 3.5). Only pairs whose bound leaves
// the question open are summed exactly.
#include "metrics/precision_recall.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cfloat>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "metrics/neighbours.hpp"

namespace dkdm::metrics {
namespace {

constexpr std::int64_t kChunk = 16;  // products that are looked at together
constexpr std::int64_t kLanes = 8;

at::Tensor checked(const at::Tensor& features) {
  if (features.dim() != 2 || !features.isfinite().all().item<bool>())
    throw std::invalid_argument("features are not finite vectors [n,D]");
  return features.to(at::kCPU, at::kFloat).contiguous();
}

// The sum over (u - v)^2 in f64: the same bits for (u,v) and (v,u), 0 for equals.
double squared_distance(const float* u, const float* v, std::int64_t dimension) {
  std::array<double, kLanes> sums{};
  std::int64_t k = 0;
  for (; k + kLanes <= dimension; k += kLanes) {
    for (std::int64_t lane = 0; lane < kLanes; ++lane) {
      const double difference = double(u[k + lane]) - double(v[k + lane]);
      sums[std::size_t(lane)] += difference * difference;
    }
  }
  double sum = 0;
  for (; k < dimension; ++k) sum += (double(u[k]) - double(v[k])) * (double(u[k]) - double(v[k]));
  for (const double lane : sums) sum += lane;
  return sum;
}

// Features about a centre, cut into blocks of rows.
class Blocks {
 public:
  struct Block {
    std::int64_t first;
    at::Tensor rows;           // f32 [m,D]
    std::vector<float> norms;  // lowered squared norms: bound = norm + norm - 2 product
  };

  Blocks(const at::Tensor& features, const at::Tensor& centre, std::int64_t size)
      : features_(features), centre_(centre), size_(size) {}

  std::int64_t count() const { return (features_.size(0) + size_ - 1) / size_; }

  Block operator[](std::int64_t index) const {
    const std::int64_t first = index * size_;
    const auto rows =
        features_.slice(0, first, std::min(first + size_, features_.size(0))) - centre_;
    const auto squares = rows.square().sum(1, /*keepdim=*/false, at::kDouble);
    // Of the product D roundings, of the centred features four, of norms and sums the rest.
    const double dimension = double(rows.size(1));
    const double lost = (dimension + 16) * double(FLT_EPSILON) / 2;
    const auto lowered = squares.mul(1 - lost).sub(dimension * double(FLT_MIN)).to(at::kFloat);
    if (!lowered.isfinite().all().item<bool>())
      throw std::invalid_argument("features are too large to be squared in f32");
    const float* norms = lowered.const_data_ptr<float>();
    return {first, rows, {norms, norms + lowered.numel()}};
  }

 private:
  at::Tensor features_, centre_;
  std::int64_t size_;
};

// Calls visit(column) where norm + norms[column] - 2 products[column] <= limit(column).
template <typename Limit, typename Visit>
void visit_near(const float* products, float norm, const std::vector<float>& norms,
                const Limit& limit, const Visit& visit) {
  const auto columns = std::int64_t(norms.size());
  const auto near = [&](std::int64_t c) {
    return norm + norms[std::size_t(c)] - 2 * products[c] <= limit(c);
  };
  std::int64_t c = 0;
  for (; c + kChunk <= columns; c += kChunk) {
    int any = 0;
    for (std::int64_t i = 0; i < kChunk; ++i) any |= int(near(c + i));
    if (any == 0) continue;
    for (std::int64_t i = 0; i < kChunk; ++i)
      if (near(c + i)) visit(c + i);
  }
  for (; c < columns; ++c)
    if (near(c)) visit(c);
}

void note_neighbours(const Blocks::Block& a, const Blocks::Block& b, const at::Tensor& products,
                     std::vector<Nearest>& nearest) {
  const float* data = products.const_data_ptr<float>();
  const auto columns = std::int64_t(b.norms.size());
  at::parallel_for(0, std::int64_t(a.norms.size()), 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      Nearest& mine = nearest[std::size_t(a.first + r)];
      const float* row = data + r * columns;
      const float norm = a.norms[std::size_t(r)];
      visit_near(
          row, norm, b.norms, [&](std::int64_t) { return mine.farthest(); },
          [&](std::int64_t c) {
            mine.take(norm + b.norms[std::size_t(c)] - 2 * row[c], b.first + c);
          });
    }
  });
}

// Distance to the k-th nearest other vector: the exact ones of the candidates decide, unless a
// vector that is none of them might be nearer.
double radius(const at::Tensor& features, std::int64_t i, const Nearest& candidates,
              std::int64_t k) {
  const float* data = features.const_data_ptr<float>();
  const auto dimension = features.size(1);
  std::vector<double> distances;
  const auto measure = [&](std::int64_t j) {
    distances.push_back(squared_distance(data + i * dimension, data + j * dimension, dimension));
  };
  const auto kth = [&] {
    std::nth_element(distances.begin(), distances.begin() + k, distances.end());
    return distances[std::size_t(k)];
  };
  for (const std::int64_t j : candidates.indices()) measure(j);
  if (std::int64_t(distances.size()) > k) {
    const double found = kth();
    if (found <= double(candidates.farthest())) return found;
  }
  distances.clear();
  for (std::int64_t j = 0; j < features.size(0); ++j) measure(j);
  return kth();
}

// Radii in f32, none made smaller.
std::vector<float> raised(const at::Tensor& radii) {
  std::vector<float> result;
  const double* values = radii.const_data_ptr<double>();
  for (std::int64_t i = 0; i < radii.size(0); ++i)
    result.push_back(std::nextafter(float(values[i]), std::numeric_limits<float>::infinity()));
  return result;
}

}  // namespace

Manifold manifold(const at::Tensor& features, std::int64_t k, std::int64_t block) {
  Manifold result{checked(features), {}};
  const auto count = result.features.size(0);
  if (k < 1 || count <= k)
    throw std::invalid_argument("the " + std::to_string(k) + " nearest neighbours of " +
                                std::to_string(count) + " vectors");
  const Blocks blocks(result.features, result.features.mean(0), block);
  std::vector<Nearest> nearest(static_cast<std::size_t>(count), Nearest(k));
  for (std::int64_t i = 0; i < blocks.count(); ++i) {
    const auto a = blocks[i];
    note_neighbours(a, a, a.rows.mm(a.rows.t()), nearest);
    for (std::int64_t j = i + 1; j < blocks.count(); ++j) {
      const auto b = blocks[j];
      const auto products = a.rows.mm(b.rows.t());
      note_neighbours(a, b, products, nearest);
      note_neighbours(b, a, products.t().contiguous(), nearest);
    }
  }
  result.radii = at::empty({count}, at::kDouble);
  double* radii = result.radii.mutable_data_ptr<double>();
  at::parallel_for(0, count, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      radii[i] = radius(result.features, i, nearest[std::size_t(i)], k);
  });
  return result;
}

PrecisionRecall precision_recall(const Manifold& reference, const Manifold& samples,
                                 std::int64_t block) {
  const auto dimension = reference.features.size(1);
  if (dimension != samples.features.size(1))
    throw std::invalid_argument("feature dimensions differ: " + std::to_string(dimension) +
                                " and " + std::to_string(samples.features.size(1)));
  const float* reference_data = reference.features.const_data_ptr<float>();
  const float* sample_data = samples.features.const_data_ptr<float>();
  const double* reference_radii = reference.radii.const_data_ptr<double>();
  const double* sample_radii = samples.radii.const_data_ptr<double>();
  const auto reference_limits = raised(reference.radii), sample_limits = raised(samples.radii);
  // Set by any thread, read to save work: what they end as does not depend on the order.
  std::vector<std::atomic<bool>> reference_inside(reference_limits.size());
  std::vector<std::atomic<bool>> samples_inside(sample_limits.size());

  const auto meet = [&](std::int64_t r, std::int64_t s) {
    auto& r_inside = reference_inside[std::size_t(r)];
    auto& s_inside = samples_inside[std::size_t(s)];
    if (r_inside && s_inside) return;
    const double distance =
        squared_distance(reference_data + r * dimension, sample_data + s * dimension, dimension);
    if (distance <= reference_radii[r]) s_inside = true;
    if (distance <= sample_radii[s]) r_inside = true;
  };

  const auto centre = reference.features.mean(0);
  const Blocks rows(reference.features, centre, block), columns(samples.features, centre, block);
  for (std::int64_t i = 0; i < rows.count(); ++i) {
    const auto a = rows[i];
    for (std::int64_t j = 0; j < columns.count(); ++j) {
      const auto b = columns[j];
      const auto products = a.rows.mm(b.rows.t());
      const float* data = products.const_data_ptr<float>();
      const auto width = std::int64_t(b.norms.size());
      at::parallel_for(0, std::int64_t(a.norms.size()), 16,
                       [&](std::int64_t from, std::int64_t to) {
                         for (std::int64_t r = from; r < to; ++r) {
                           const float own = reference_limits[std::size_t(a.first + r)];
                           const float* theirs = sample_limits.data() + b.first;
                           visit_near(
                               data + r * width, a.norms[std::size_t(r)], b.norms,
                               [&](std::int64_t c) { return std::max(own, theirs[c]); },
                               [&](std::int64_t c) { meet(a.first + r, b.first + c); });
                         }
                       });
    }
  }

  const auto flags = [](const std::vector<std::atomic<bool>>& inside) {
    auto result = at::empty({std::int64_t(inside.size())}, at::kBool);
    std::copy(inside.begin(), inside.end(), result.mutable_data_ptr<bool>());
    return result;
  };
  PrecisionRecall result{0, 0, flags(samples_inside), flags(reference_inside)};
  result.precision = result.samples_inside.to(at::kDouble).mean().item<double>();
  result.recall = result.reference_inside.to(at::kDouble).mean().item<double>();
  return result;
}

}  // namespace dkdm::metrics
