// dkdm::group_norm against LibTorch's own, in both memory formats: forward, and forward with
// backward. Sizes are [images, channels, side]: adm-unet's levels, desk and paper.
#include <ATen/ATen.h>
#include <benchmark/benchmark.h>
#include <c10/core/InferenceMode.h>

#include "dkdm/nn.hpp"

namespace {

constexpr std::int64_t kGroups = 32;

using Norm = at::Tensor (*)(const at::Tensor&, const at::Tensor&, const at::Tensor&);

at::Tensor dkdm_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  return dkdm::nn::group_norm(x, kGroups, weight, bias);
}
at::Tensor torch_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  return at::group_norm(x, kGroups, weight, bias);
}

at::Tensor input(const benchmark::State& state, at::MemoryFormat format) {
  return at::randn({state.range(0), state.range(1), state.range(2), state.range(2)})
      .contiguous(format);
}

void forward(benchmark::State& state, Norm norm, at::MemoryFormat format) {
  const c10::InferenceMode inference;
  const at::Tensor x = input(state, format);
  const at::Tensor weight = at::ones({x.size(1)}), bias = at::zeros({x.size(1)});
  for (auto _ : state) benchmark::DoNotOptimize(norm(x, weight, bias));
  state.SetBytesProcessed(state.iterations() * x.numel() * 8);
}

void training(benchmark::State& state, Norm norm, at::MemoryFormat format) {
  const at::Tensor x = input(state, format).requires_grad_();
  const at::Tensor weight = at::ones({x.size(1)}).requires_grad_();
  const at::Tensor bias = at::zeros({x.size(1)}).requires_grad_();
  const at::Tensor slope = at::randn(x.sizes()).contiguous(format);
  for (auto _ : state) {
    norm(x, weight, bias).backward(slope);
    x.mutable_grad().reset();
  }
  state.SetBytesProcessed(state.iterations() * x.numel() * 20);
}

void sizes(benchmark::internal::Benchmark* bench) {
  bench->Args({64, 32, 16})->Args({64, 64, 32})->Args({64, 128, 8})->Args({1, 128, 64});
  bench->UseRealTime()->Unit(benchmark::kMicrosecond);
}

constexpr auto kFirst = at::MemoryFormat::Contiguous, kLast = at::MemoryFormat::ChannelsLast;
BENCHMARK_CAPTURE(forward, dkdm_channels_last, dkdm_norm, kLast)->Apply(sizes);
BENCHMARK_CAPTURE(forward, torch_channels_last, torch_norm, kLast)->Apply(sizes);
BENCHMARK_CAPTURE(forward, dkdm_contiguous, dkdm_norm, kFirst)->Apply(sizes);
BENCHMARK_CAPTURE(forward, torch_contiguous, torch_norm, kFirst)->Apply(sizes);
BENCHMARK_CAPTURE(training, dkdm_channels_last, dkdm_norm, kLast)->Apply(sizes);
BENCHMARK_CAPTURE(training, torch_channels_last, torch_norm, kLast)->Apply(sizes);
BENCHMARK_CAPTURE(training, dkdm_contiguous, dkdm_norm, kFirst)->Apply(sizes);
BENCHMARK_CAPTURE(training, torch_contiguous, torch_norm, kFirst)->Apply(sizes);

}  // namespace

BENCHMARK_MAIN();
