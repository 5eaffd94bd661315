// Definition: float32_mean.hpp.
#include "metrics/float32_mean.hpp"

#include <ATen/ATen.h>

#include <stdexcept>

namespace dkdm::metrics {

void Float32Mean::add(const at::Tensor& features) {
  if (features.size(0) == 0) return;
  const auto dimension = static_cast<std::size_t>(features.size(1));
  if (sum_.empty()) sum_.resize(dimension);
  if (features.scalar_type() != at::kFloat || sum_.size() != dimension)
    throw std::invalid_argument(
        "expected f32 features of dimension " + std::to_string(sum_.size()) + ", got " +
        c10::toString(features.scalar_type()) + " of dimension " + std::to_string(dimension));
  const auto rows = features.to(at::kCPU).contiguous();
  const float* value = rows.const_data_ptr<float>();
  for (std::int64_t row = 0; row < rows.size(0); ++row)
    for (float& sum : sum_) sum += *value++;
  count_ += rows.size(0);
}

at::Tensor Float32Mean::mean() const {
  if (count_ == 0) throw std::invalid_argument("no vectors");
  return at::tensor(sum_, at::kFloat).div(double(count_)).to(at::kDouble);
}

}  // namespace dkdm::metrics
