// The blocks of dkdm/nn.hpp but normalisation: the reference's time embedding, attention as one
// fused operator, dropout from the counter-based generator.
#include <ATen/ATen.h>

#include <cmath>
#include <map>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include "dkdm/device.hpp"
#include "dkdm/nn.hpp"
#include "dkdm/random.hpp"
#include "random/portable.hpp"

namespace dkdm::nn {

namespace {

// f32 [count]. Brought to a device once, not in every forward.
torch::Tensor frequencies(std::int64_t count, double span, at::Device device) {
  static std::mutex mutex;
  static auto* const made = new std::map<std::tuple<std::int64_t, double, std::string>, at::Tensor>;
  const std::scoped_lock lock(mutex);
  at::Tensor& kept = (*made)[{count, span, device.str()}];
  if (kept.defined()) return kept;
  const c10::InferenceMode off(false);  // what is kept may take part in training
  std::vector<float> values;
  for (std::int64_t k = 0; k < count; ++k) {
    values.push_back(
        static_cast<float>(std::exp(-std::log(10000.0) * static_cast<double>(k) / span)));
  }
  kept = sent_to(at::tensor(values), device);
  return kept;
}

}  // namespace

Sinusoid sinusoid(const torch::Tensor& t, std::int64_t count, double span) {
  const auto f = frequencies(count, span, t.device());
  const auto phase = t.to(at::kFloat).unsqueeze(1) * f.unsqueeze(0);
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

torch::Tensor in_full(const torch::Tensor& x) {
  const bool reduced = x.scalar_type() == at::kBFloat16 || x.scalar_type() == at::kHalf;
  return reduced ? x.to(at::kFloat) : x;
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
  if (!draws() || p_ == 0) return x;
  const at::Tensor mask = random::dropout_mask(seed_, Stream::dropout, random::step_of_layer(step_),
                                               layer_, first_sample_, x.sizes(), p_, x.device());
  return x * mask.to(x.options());
}

void SeededLayer::seed(std::uint64_t seed, std::uint32_t step, std::uint32_t layer,
                       std::int64_t first_sample) {
  seed_ = seed;
  step_ = step;
  layer_ = layer;
  first_sample_ = first_sample;
  seeded_ = true;
}

void seed_layers(torch::nn::Module& module, std::uint64_t seed, std::int64_t step,
                 std::int64_t first_sample) {
  std::uint32_t layer = 0;
  for (const auto& child : module.modules(/*include_self=*/false)) {
    if (auto* seeded = dynamic_cast<SeededLayer*>(child.get())) {
      seeded->seed(seed, static_cast<std::uint32_t>(step), layer++, first_sample);
    }
  }
}

void RandomLayer::seed(std::uint64_t seed, std::uint32_t step, std::uint32_t layer,
                       std::int64_t first_sample) {
  SeededLayer::seed(seed, step, layer, first_sample);
  calls_ = 0;
}

std::int64_t RandomLayer::next_call() {
  if (!draws()) {
    throw Error(
        "a RandomLayer was asked for numbers in evaluation mode or without a seed; ask draws() "
        "first");
  }
  // The numbers' key has a seed, a step and 64 bits that tell samples apart: those below are for
  // samples.
  constexpr std::int64_t kCalls = std::int64_t{1} << 11, kLayers = std::int64_t{1} << 12;
  if (calls_ >= kCalls || layer_ >= kLayers) {
    throw Error("a RandomLayer was asked " + std::to_string(calls_) +
                " times in one forward, as layer " + std::to_string(layer_) + ": at most " +
                std::to_string(kCalls) + " calls of " + std::to_string(kLayers) +
                " layers have numbers of their own");
  }
  return layer_ * kCalls + calls_++;
}

namespace {
constexpr int kSampleBits = 40;
}

torch::Tensor RandomLayer::normal(const torch::Tensor& like) {
  const std::int64_t first = (next_call() << kSampleBits) + first_sample_;
  const auto index = at::arange(first, first + like.size(0), like.options().dtype(at::kLong));
  return random::normal(random::key_of(seed_, Stream::layer), random::step_of_layer(step_), index,
                        like.sizes().slice(1))
      .contiguous(like.suggest_memory_format());
}

torch::Tensor RandomLayer::uniform(const torch::Tensor& like) {
  const std::int64_t first = (next_call() << kSampleBits) + first_sample_;
  return random::uniform(seed_, Stream::layer, random::step_of_layer(step_), first, like.size(0),
                         like.device());
}

torch::Tensor RandomLayer::mask(const torch::Tensor& like, double p) {
  if (!(p >= 0 && p < 1))
    throw ConfigError("mask: p = " + std::to_string(p) + ", expected a probability in [0, 1)");
  const auto layer = static_cast<std::uint32_t>(next_call());
  return random::dropout_mask(seed_, Stream::layer, random::step_of_layer(step_), layer,
                              first_sample_, like.sizes(), p, like.device());
}

}  // namespace dkdm::nn
