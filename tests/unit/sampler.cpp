// The sampler, driven by a network whose answer is known: the optimal denoiser of Gaussian data.
#include "dkdm/sampler.hpp"

#include <ATen/ATen.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "dkdm/random.hpp"

namespace {

using dkdm::GaussianDiffusion;
using dkdm::SampleShape;

constexpr double kMean = 0.3, kDeviation = 0.2;

// Data N(kMean, kDeviation^2): E[eps | x_t] and the exact variance of p(x_{t-1} | x_t) are closed
// forms.
class GaussianDenoiser : public dkdm::Denoiser {
 public:
  explicit GaussianDenoiser(const GaussianDiffusion& process) : process_(process) {}

  torch::Tensor forward(const torch::Tensor& x_t, const torch::Tensor& t) override {
    was_training = was_training || is_training();
    called_with.push_back(t[0].item<std::int64_t>());
    const auto& map = process_.timestep_map();
    const auto k = static_cast<std::size_t>(std::find(map.begin(), map.end(), called_with.back()) -
                                            map.begin());
    const auto& tables = process_.tables();
    const double a = tables.alpha_bar[k], s2 = kDeviation * kDeviation;
    const double marginal = a * s2 + 1 - a;
    const at::Tensor eps = std::sqrt(1 - a) / marginal * (x_t - std::sqrt(a) * kMean);
    const double x0_variance = s2 * (1 - a) / marginal;  // of x0 given x_t
    const double coef = tables.posterior_mean_coef_x0[k];
    const double log_variance = std::log(tables.posterior_variance[k] + coef * coef * x0_variance);
    const double low = tables.posterior_log_variance_clipped[k], high = tables.log_beta[k];
    const double v = 2 * (log_variance - low) / (high - low) - 1;
    at::Tensor output = at::cat({eps, at::full_like(eps, v)}, 1);
    if (static_cast<std::int64_t>(called_with.size()) == poison_call) {
      output[0][0][0][0] = std::numeric_limits<float>::quiet_NaN();
    }
    return output;
  }

  std::vector<std::int64_t> called_with;
  std::int64_t poison_call = 0;  // 0 = none
  bool was_training = false;

 private:
  GaussianDiffusion process_;
};

// The same data, asked at any time between steps: log alpha_bar linear between them, as DPM-Solver
// takes it.
class GaussianFlow : public dkdm::Denoiser {
 public:
  explicit GaussianFlow(const GaussianDiffusion& process) : tables_(process.tables()) {}

  torch::Tensor forward(const torch::Tensor& x_t, const torch::Tensor& t) override {
    ++calls;
    const double time = t[0].item<double>();
    const auto k = std::min(static_cast<std::size_t>(time), tables_.alpha_bar.size() - 2);
    const double a = std::exp(std::lerp(std::log(tables_.alpha_bar[k]),
                                        std::log(tables_.alpha_bar[k + 1]), time - double(k)));
    const double marginal = a * kDeviation * kDeviation + 1 - a;
    const at::Tensor eps = std::sqrt(1 - a) / marginal * (x_t - std::sqrt(a) * kMean);
    return at::cat({eps, at::zeros_like(eps)}, 1);
  }
  std::int64_t calls = 0;

 private:
  GaussianDiffusion::Tables tables_;
};

const dkdm::SamplerConfig kAncestral{"ancestral", 0, false}, kDdim{"ddim", 0, false};

}  // namespace

TEST_CASE("sampler: ancestral samples of Gaussian data have its mean and variance",
          "[unit][sampler]") {
  const GaussianDiffusion process({"cosine", 1000, "20"});
  GaussianDenoiser network(process);
  const at::Tensor x = dkdm::sample(network, process, kAncestral, SampleShape{1, 8, 8}, 5, 0, 256);
  REQUIRE(x.sizes() == at::IntArrayRef({256, 1, 8, 8}));
  // Each step is exact, so only chance is left: 16,384 values, 4 standard errors.
  const double n = 256 * 64;
  CHECK(std::abs(x.mean().item<double>() - kMean) < 4 * kDeviation / std::sqrt(n));
  CHECK(std::abs(x.var().item<double>() / (kDeviation * kDeviation) - 1) < 4 * std::sqrt(2 / n));
}

TEST_CASE("sampler: DDIM follows the closed-form map of its noise", "[unit][sampler]") {
  const GaussianDiffusion process({"cosine", 1000, "25"});
  GaussianDenoiser network(process);
  const at::Tensor x = dkdm::sample(network, process, kDdim, SampleShape{3, 4, 4}, 9, 2, 5);
  // A linear denoiser makes the chain linear: x_0 = scale x_T + shift, in float64.
  double scale = 1, shift = 0;
  const auto& tables = process.tables();
  for (std::size_t k = tables.alpha_bar.size(); k-- > 0;) {
    const double a = tables.alpha_bar[k], prev = tables.alpha_bar_prev[k];
    const double marginal = a * kDeviation * kDeviation + 1 - a;
    const double eps_of_x = std::sqrt(1 - a) / marginal;
    const double x0_of_x = (1 - std::sqrt(1 - a) * eps_of_x) / std::sqrt(a);
    const double x0_shift = std::sqrt(1 - a) * eps_of_x * kMean;
    const double factor = std::sqrt(prev) * x0_of_x + std::sqrt(1 - prev) * eps_of_x;
    shift = factor * shift + std::sqrt(prev) * x0_shift -
            std::sqrt(1 - prev) * eps_of_x * std::sqrt(a) * kMean;
    scale *= factor;
  }
  const at::Tensor noise = dkdm::Random(9, dkdm::Stream::sample_start).normal(0, 2, 5, {3, 4, 4});
  CHECK(at::allclose(x, noise * scale + shift, 1e-3, 1e-3));
}

TEST_CASE(
    "sampler: DPM-Solver comes near the flow's end as its steps grow, faster than first order",
    "[unit][sampler]") {
  // The probability flow of Gaussian data maps x at time t to
  // mean + (x - sqrt(alpha_bar) mean) * deviation of the end / deviation at t, in closed form.
  const GaussianDiffusion process({"linear", 1000, ""});
  const auto& tables = process.tables();
  const auto deviation = [&](double a) { return std::sqrt(a * kDeviation * kDeviation + 1 - a); };
  const double first = tables.alpha_bar.back(), last = tables.alpha_bar.front();
  const at::Tensor noise = dkdm::Random(9, dkdm::Stream::sample_start).normal(0, 2, 5, {3, 4, 4});
  const at::Tensor end = std::sqrt(last) * kMean +
                         (noise - std::sqrt(first) * kMean) * (deviation(last) / deviation(first));
  const auto error = [&](std::int64_t steps) {
    GaussianFlow network(process);
    const dkdm::SamplerConfig config{"dpm-solver", 0, /*clip_denoised=*/false, steps};
    const at::Tensor x = dkdm::sample(network, process, config, SampleShape{3, 4, 4}, 9, 2, 5);
    CHECK(network.calls == steps);
    return (x - end).abs().max().item<double>();
  };
  // Steps are uniform in time, so the last one is long in log(alpha / sigma) until they are many.
  const double coarse = error(160), fine = error(640);
  CHECK(fine < 1.5e-3);
  CHECK(fine < coarse / 10);  // second order: 16, first order: 4
}

TEST_CASE("sampler: sample i is the same at every batch size", "[unit][sampler]") {
  const GaussianDiffusion process({"cosine", 1000, "10"});
  GaussianDenoiser network(process);
  for (const dkdm::SamplerConfig& config :
       {kAncestral, kDdim, dkdm::SamplerConfig{"ddim", 0.7, true}}) {
    const auto draw = [&](std::int64_t first, std::int64_t count) {
      return dkdm::sample(network, process, config, SampleShape{3, 5, 7}, 1, first, count);
    };
    const at::Tensor seven = draw(0, 7);
    // Not bit for bit: vector and scalar loops of LibTorch may round differently.
    CHECK(at::allclose(draw(4, 3), seven.narrow(0, 4, 3), 1e-5, 1e-6));
    for (std::int64_t i = 0; i < 7; ++i) {
      CHECK(at::allclose(draw(i, 1)[0], seven[i], 1e-5, 1e-6));
    }
    CHECK_FALSE(at::allclose(seven[0], seven[1], 1e-2, 1e-2));
    CHECK_FALSE(at::allclose(dkdm::sample(network, process, config, SampleShape{3, 5, 7}, 2, 0, 7),
                             seven, 1e-2, 1e-2));
  }
}

TEST_CASE("sampler: the network sees original times, downwards, in evaluation mode",
          "[unit][sampler]") {
  const GaussianDiffusion process({"cosine", 1000, "4"});
  GaussianDenoiser network(process);
  network.train();
  std::vector<std::int64_t> reported;
  const at::Tensor x = dkdm::sample(network, process, kAncestral, SampleShape{1, 2, 2}, 0, 0, 2,
                                    [&](std::int64_t done) { reported.push_back(done); });
  CHECK(network.called_with == std::vector<std::int64_t>{999, 666, 333, 0});
  CHECK(reported == std::vector<std::int64_t>{1, 2, 3, 4});
  CHECK_FALSE(network.was_training);
  CHECK_FALSE(x.requires_grad());
  CHECK(dkdm::sample(network, process, kAncestral, SampleShape{1, 2, 2}, 0, 0, 0).size(0) == 0);
}

TEST_CASE("sampler: a value that is not finite stops the chain and names the step",
          "[unit][sampler]") {
  const GaussianDiffusion process({"cosine", 1000, "20"});
  for (const std::int64_t call : {1, 7, 17, 20}) {
    GaussianDenoiser network(process);
    network.poison_call = call;
    CHECK_THROWS_WITH(dkdm::sample(network, process, kAncestral, SampleShape{1, 4, 4}, 0, 30, 2),
                      Catch::Contains("after step " + std::to_string(call) + " of 20") &&
                          Catch::Contains("samples 30 to 31"));
  }
}

TEST_CASE("sampler: an unknown sampler or eta is refused", "[unit][sampler]") {
  const GaussianDiffusion process({"cosine", 1000, "4"});
  GaussianDenoiser network(process);
  CHECK_THROWS_WITH(
      dkdm::sample(network, process, {"heun", 0, true}, SampleShape{1, 2, 2}, 0, 0, 1),
      Catch::Contains("\"heun\"") && Catch::Contains("ancestral"));
  CHECK_THROWS_WITH(
      dkdm::sample(network, process, {"ddim", 2, true}, SampleShape{1, 2, 2}, 0, 0, 1),
      Catch::Contains("eta") && Catch::Contains("0 to 1"));
  const dkdm::SamplerConfig solver{"dpm-solver", 0, true, 1};
  CHECK_THROWS_WITH(dkdm::sample(network, process, solver, SampleShape{1, 2, 2}, 0, 0, 1),
                    Catch::Contains("solver_steps is 1") && Catch::Contains("at least 2"));
  CHECK_THROWS_WITH(dkdm::sample(network, process, {"dpm-solver"}, SampleShape{1, 2, 2}, 0, 0, 1),
                    Catch::Contains("respacing is \"4\"") && Catch::Contains("whole chain"));
}
