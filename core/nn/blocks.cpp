// The blocks of dkdm/nn.hpp: the reference's time embedding, attention as one fused operator,
// dropout from the counter-based generator.
#include <ATen/ATen.h>

#include <cmath>
#include <vector>

#include "dkdm/nn.hpp"
#include "dkdm/random.hpp"

namespace dkdm::nn {

Sinusoid sinusoid(const torch::Tensor& t, std::int64_t count, double span) {
  std::vector<float> frequencies;
  for (std::int64_t k = 0; k < count; ++k) {
    frequencies.push_back(
        static_cast<float>(std::exp(-std::log(10000.0) * static_cast<double>(k) / span)));
  }
  const auto phase = t.to(at::kFloat).unsqueeze(1) * at::tensor(frequencies).to(t.device()).unsqueeze(0);
  // Metal has no f64.
  const auto exact = phase.to(t.device().is_mps() ? at::kFloat : at::kDouble);
  return {exact.cos().to(at::kFloat), exact.sin().to(at::kFloat)};
}

torch::Tensor timestep_embedding(const torch::Tensor& t, std::int64_t dim) {
  if (dim < 2 || dim % 2 != 0) {
    throw ConfigError("time embedding of width " + std::to_string(dim) +
                      ": expected an even number, half cosines and half sines");
  }
  const auto [cos, sin] = sinusoid(t, dim / 2, static_cast<double>(dim / 2));
  return at::cat({cos, sin}, 1);
}

torch::Tensor self_attention(const torch::Tensor& qkv, std::int64_t heads, QkvOrder order) {
  const std::int64_t n = qkv.size(0), tokens = qkv.size(1), width = qkv.size(2) / 3;
  if (width * 3 != qkv.size(2) || width % heads != 0) {
    throw ConfigError("attention: " + std::to_string(qkv.size(2)) +
                      " channels of q, k and v, expected a multiple of three times the " +
                      std::to_string(heads) + " heads");
  }
  // One unbind: its gradient is one concatenation in the layout of qkv, where three selects would
  // each add into a zeroed copy.
  const bool parts_first = order == QkvOrder::parts_first;
  const auto parts = parts_first ? qkv.view({n, tokens, 3, heads, width / heads}).unbind(2)
                                 : qkv.view({n, tokens, heads, 3, width / heads}).unbind(3);
  const auto out = at::scaled_dot_product_attention(
      parts[0].transpose(1, 2), parts[1].transpose(1, 2), parts[2].transpose(1, 2));
  return out.transpose(1, 2).reshape({n, tokens, width});
}

void zero_parameters(torch::nn::Module& module) {
  at::NoGradGuard no_grad;
  for (auto& parameter : module.parameters()) parameter.zero_();
}

Dropout::Dropout(double p) : p_(p) {
  if (!(p >= 0 && p < 1)) {
    throw ConfigError("dropout = " + std::to_string(p), "expected a probability in [0, 1)");
  }
}

torch::Tensor Dropout::forward(const torch::Tensor& x) {
  if (!is_training() || p_ == 0 || !seeded_) return x;
  const at::Tensor mask =
      Random(seed_, Stream::dropout).dropout_mask(step_, layer_, first_sample_, x.sizes(), p_);
  return x * mask.to(x.options());
}

void Dropout::seed(std::uint64_t seed, std::uint32_t step, std::uint32_t layer,
                   std::int64_t first_sample) {
  seed_ = seed;
  step_ = step;
  layer_ = layer;
  first_sample_ = first_sample;
  seeded_ = true;
}

void seed_dropout(torch::nn::Module& module, std::uint64_t seed, std::int64_t step,
                  std::int64_t first_sample) {
  std::uint32_t layer = 0;
  for (const auto& child : module.modules(/*include_self=*/false)) {
    if (auto* dropout = dynamic_cast<Dropout*>(child.get())) {
      dropout->seed(seed, static_cast<std::uint32_t>(step), layer++, first_sample);
    }
  }
}

}  // namespace dkdm::nn
