// Inception features, with preprocessing, beside the machine's GEMM rate in the same run.
//
//     build/tests/bench/bench-inception [--benchmark_filter=features] [--benchmark_min_time=5]
//
// BENCH_BATCH images a call (default 32), of BENCH_SIDE pixels (default 32). `share_of_gemm` is the
// network's arithmetic, as its convolutions define it, by the rate of the largest matrix product.
// Seeded weights: time does not depend on them. inception_peers.py runs this beside Python's.
#include <ATen/ATen.h>
#include <benchmark/benchmark.h>

#include <chrono>
#include <cstdlib>

#include "fixtures/inception.hpp"
#include "metrics/preprocess.hpp"

namespace {

using namespace dkdm;

std::int64_t setting(const char* name, std::int64_t otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::atoll(text) : otherwise;
}

const metrics::Inception& network() {
  static const metrics::Inception net(fixtures::inception_state());
  return net;
}

at::Tensor images() {
  const auto side = setting("BENCH_SIDE", 32);
  return fixtures::inception_images({setting("BENCH_BATCH", 32), 3, side, side});
}

// Multiplications and additions of the convolutions and the classes, an image.
double arithmetic() {
  double sum = 2.0 * metrics::Inception::kPooled * metrics::Inception::kClasses;
  for (const auto& layer : metrics::inception_layers()) {
    const auto side = [&](std::int64_t kernel, std::int64_t pad) {
      return double((layer.side + 2 * pad - kernel) / layer.stride + 1);
    };
    sum += 2.0 * side(layer.kernel_h, layer.pad_h) * side(layer.kernel_w, layer.pad_w) *
           double(layer.in * layer.out * layer.kernel_h * layer.kernel_w);
  }
  return sum;
}

double best_gemm_rate = 0;

void gemm(benchmark::State& state) {
  const auto n = state.range(0);
  const at::Tensor a = at::randn({n, n}), b = at::randn({n, n});
  at::Tensor c = a.mm(b);
  const double work = 2.0 * double(n) * double(n) * double(n);
  for (auto _ : state) {
    const auto begin = std::chrono::steady_clock::now();
    at::mm_out(c, a, b);
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
    best_gemm_rate = std::max(best_gemm_rate, work / time.count());
  }
  state.counters["FLOP/s"] =
      benchmark::Counter(work, benchmark::Counter::kIsIterationInvariantRate);
}

void features(benchmark::State& state, metrics::Preprocessing rule) {
  const auto batch = images();
  network()(metrics::preprocess(batch, rule));  // memory and oneDNN's kernels
  double best_rate = 0;
  for (auto _ : state) {
    const auto begin = std::chrono::steady_clock::now();
    benchmark::DoNotOptimize(network()(metrics::preprocess(batch, rule)));
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
    best_rate = std::max(best_rate, double(batch.size(0)) / time.count());
  }
  state.counters["images/s"] =
      benchmark::Counter(double(batch.size(0)), benchmark::Counter::kIsIterationInvariantRate);
  state.counters["best_images/s"] = best_rate;
  state.counters["FLOP_an_image"] = arithmetic();
  if (best_gemm_rate > 0)
    state.counters["share_of_gemm"] = best_rate * arithmetic() / best_gemm_rate;
}

void resize(benchmark::State& state, metrics::Preprocessing rule) {
  const auto batch = images();
  for (auto _ : state) benchmark::DoNotOptimize(metrics::preprocess(batch, rule));
  state.counters["images/s"] =
      benchmark::Counter(double(batch.size(0)), benchmark::Counter::kIsIterationInvariantRate);
}

}  // namespace

BENCHMARK(gemm)->Arg(1024)->Arg(2048)->UseRealTime()->MeasureProcessCPUTime()->Unit(
    benchmark::kMillisecond);
BENCHMARK_CAPTURE(features, adm, metrics::Preprocessing::adm)
    ->UseRealTime()
    ->MeasureProcessCPUTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(features, clean, metrics::Preprocessing::clean)
    ->UseRealTime()
    ->MeasureProcessCPUTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(resize, adm, metrics::Preprocessing::adm)
    ->UseRealTime()
    ->MeasureProcessCPUTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(resize, clean, metrics::Preprocessing::clean)
    ->UseRealTime()
    ->MeasureProcessCPUTime()
    ->Unit(benchmark::kMillisecond);

BENCHMARK_MAIN();
