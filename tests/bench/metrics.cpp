// The statistics at Inception's size: a Fréchet distance of 2048 dimensions, moments, precision and
// recall. GEMM rows are the machine's rate in the same run: what there is to reach.
//
//     build/tests/bench/bench-metrics [--benchmark_filter=frechet]
#include <ATen/ATen.h>
#include <benchmark/benchmark.h>

#include <fstream>
#include <string>

#include "metrics/frechet.hpp"
#include "metrics/precision_recall.hpp"

namespace {

using namespace dkdm::metrics;

constexpr std::int64_t kFeatures = 2048;

at::Tensor normal(std::int64_t rows, std::int64_t columns, std::uint64_t seed) {
  return at::randn({rows, columns}, at::make_generator<at::CPUGeneratorImpl>(seed),
                   at::TensorOptions(at::kFloat));
}

// Standard deviations from 1 down to 0.001 in turned directions: about the spectrum of pool
// features.
at::Tensor features(std::int64_t rows, std::uint64_t seed) {
  const auto decay = at::logspace(0, -3, kFeatures, 10.0, at::kFloat);
  const auto turn = std::get<0>(at::linalg_qr(normal(kFeatures, kFeatures, 1)));
  return normal(rows, kFeatures, seed).mul(decay).mm(turn).add_(0.4);
}

Gaussian gaussian(std::int64_t rows, std::uint64_t seed) {
  Moments moments;
  moments.add(features(rows, seed));
  return moments.gaussian();
}

void rate(benchmark::State& state, double operations) {
  state.counters["GFLOP/s"] = benchmark::Counter(1e-9 * operations * double(state.iterations()),
                                                 benchmark::Counter::kIsRate);
}

void gemm(benchmark::State& state, at::ScalarType type) {
  const auto a = normal(kFeatures, kFeatures, 1).to(type);
  for (auto _ : state) benchmark::DoNotOptimize(a.mm(a));
  rate(state, 2.0 * kFeatures * kFeatures * kFeatures);
}

// The argument: vectors in the second side; the first has 6,000.
void frechet(benchmark::State& state) {
  const auto a = gaussian(6000, 2), b = gaussian(state.range(0), 3);
  for (auto _ : state) benchmark::DoNotOptimize(frechet_distance(a, b));
}

void frechet_to_reference(benchmark::State& state) {
  const FrechetReference reference(gaussian(6000, 2));
  const auto b = gaussian(6000, 3);
  for (auto _ : state) benchmark::DoNotOptimize(reference.distance(b));
}

// The argument: vectors a batch.
void moments_add(benchmark::State& state) {
  const auto batch = features(state.range(0), 2);
  Moments moments;
  for (auto _ : state) moments.add(batch);
  rate(state, 2.0 * double(state.range(0)) * kFeatures * kFeatures);
}

// The argument: vectors in all. "peak MB" is what the process's resident memory rose by.
void moments_peak(benchmark::State& state) {
  const auto peak = [](bool reset) {
    if (reset) std::ofstream("/proc/self/clear_refs") << 5;
    std::ifstream status("/proc/self/status");
    double kilobytes = 0;
    for (std::string word; word != "VmHWM:" && status >> word;) continue;
    status >> kilobytes;
    return kilobytes / 1024;
  };
  const auto batch = features(50, 2);
  for (auto _ : state) {
    const double before = peak(true);
    Moments moments;
    while (moments.count() < state.range(0)) moments.add(batch);
    state.counters["peak MB"] = peak(false) - before;
  }
  state.counters["vectors/s"] =
      benchmark::Counter(double(state.range(0) * state.iterations()), benchmark::Counter::kIsRate);
}

// Radii of both sets and the balls of each in the other: operations counted are those of the
// products, half of each set's own by symmetry.
void precision_recall_of(benchmark::State& state) {
  const auto count = state.range(0);
  const auto reference = features(count, 2), samples = features(count, 3);
  for (auto _ : state)
    benchmark::DoNotOptimize(precision_recall(manifold(reference), manifold(samples)));
  rate(state, 4.0 * double(count) * double(count) * kFeatures);
}

BENCHMARK_CAPTURE(gemm, f64, at::kDouble)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK_CAPTURE(gemm, f32, at::kFloat)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(frechet)->Arg(6000)->Arg(1000)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(frechet_to_reference)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(moments_add)->Arg(50)->Arg(1024)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(moments_peak)->Arg(1000)->Arg(50000)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(precision_recall_of)->Arg(2000)->Arg(10000)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
