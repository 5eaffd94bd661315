// The sampler, driven by a network whose answer is known: the optimal denoiser of Gaussian data.
#include "dkdm/sampler.hpp"

#include <ATen/ATen.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "diffusion/sampler_kind.hpp"
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

// Says eps(x_t) and remembers when it was asked.
class Saying : public dkdm::Denoiser {
 public:
  explicit Saying(std::function<at::Tensor(const at::Tensor&)> eps) : eps_(std::move(eps)) {}
  torch::Tensor forward(const torch::Tensor& x_t, const torch::Tensor& t) override {
    called_with.push_back(t[0].item<std::int64_t>());
    return eps_(x_t);
  }
  std::vector<std::int64_t> called_with;

 private:
  std::function<at::Tensor(const at::Tensor&)> eps_;
};

// Latent diffusion's process (1000 steps, linear in the root of beta) and its way through "ddimN".
GaussianDiffusion latent_process(const std::string& respacing) {
  return GaussianDiffusion({"scaled_linear", 1000, respacing, 0.0015, 0.0195, "fixed_small"});
}
dkdm::SamplerConfig latent_ddim(double eta) {
  dkdm::SamplerConfig config{"ddim", eta, /*clip_denoised=*/false};
  config.steps_offset = 1;
  config.set_alpha_to_one = false;
  return config;
}

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

TEST_CASE("sampler: latent diffusion's DDIM begins a step later and ends at alpha_bar of the first",
          "[unit][sampler]") {
  // x' = A x0 + B x of ldm/models/diffusion/ddim.py, in float64: at x = 1 with the eps that makes
  // x0 0 it is B, at x = 0 with the one that makes it 1 A.
  struct Move {
    std::int64_t n, k;
    double a, b;
  };
  const auto tables = latent_process("").tables();
  CHECK(tables.alpha_bar[500] == Approx(0.1149220009).epsilon(1e-9));
  CHECK(tables.alpha_bar[999] == Approx(1.42303975e-4).epsilon(1e-8));
  for (const Move& move :
       {Move{200, 0, 0.2938612436, 0.7064509187}, Move{200, 100, 0.0076861050, 0.9973786468},
        Move{200, 199, 6.1547060e-4, 0.9999922488}, Move{100, 0, 0.2938612436, 0.7064509187},
        Move{100, 50, 0.0154574994, 0.9946749851}, Move{100, 99, 0.0013097539, 0.9999822445},
        Move{10, 5, 0.1685151322, 0.9304414520}, Move{10, 9, 0.0349466975, 0.9983661483}}) {
    INFO("step " << move.k << " of " << move.n);
    const auto process = latent_process("ddim" + std::to_string(move.n));
    const std::int64_t t = move.k * (1000 / move.n) + 1;
    const double alpha_bar = tables.alpha_bar[static_cast<std::size_t>(t)];
    const auto moved = [&](double x, double eps) {
      Saying network([eps](const at::Tensor& x_t) { return at::full_like(x_t, eps); });
      const auto config = latent_ddim(0);
      const auto run = dkdm::diffusion::sampler_kind("ddim").begin(process, config);
      const at::Tensor next = run->step(network, at::full({1, 1, 1, 1}, x), move.n - 1 - move.k,
                                        [](std::uint32_t) { return at::Tensor(); });
      CHECK(network.called_with == std::vector<std::int64_t>{t});
      return next.item<double>();
    };
    // Coefficients and results are float32.
    CHECK(moved(1, 1 / std::sqrt(1 - alpha_bar)) == Approx(move.b).epsilon(1e-6));
    CHECK(moved(0, -std::sqrt(alpha_bar / (1 - alpha_bar))) == Approx(move.a).epsilon(1e-6));
  }
}

TEST_CASE("sampler: latent diffusion's DDIM adds noise in every step, the last included",
          "[unit][sampler]") {
  const auto process = latent_process("ddim200");
  const auto added = [&](dkdm::SamplerConfig config, std::int64_t index) {
    Saying network([](const at::Tensor& x_t) { return at::zeros_like(x_t); });
    const auto run = dkdm::diffusion::sampler_kind("ddim").begin(process, config);
    return run
        ->step(network, at::zeros({1, 1, 1, 1}), index,
               [&](std::uint32_t step) { return at::full({1, 1, 1, 1}, 200.0F - float(step)); })
        .item<double>();
  };
  // sigma of ldm's make_ddim_sampling_parameters at eta 1, times the number that the noise shows.
  CHECK(added(latent_ddim(1), 0) == Approx(0.3051535849).epsilon(1e-6));
  CHECK(added(latent_ddim(1), 199) == Approx(200 * 0.0274320876).epsilon(1e-6));
  auto to_one = latent_ddim(1);
  to_one.set_alpha_to_one = true;
  CHECK(added(to_one, 199) == 0);

  Saying network([](const at::Tensor& x_t) { return 0.1 * x_t; });
  dkdm::sample(network, process, latent_ddim(1), SampleShape{1, 2, 2}, 0, 0, 1);
  CHECK(network.called_with.size() == 200);
  CHECK(network.called_with.front() == 996);
  CHECK(network.called_with[198] == 6);
  CHECK(network.called_with.back() == 1);
}

TEST_CASE("sampler: steps_offset is refused where the steps are not evenly spaced",
          "[unit][sampler]") {
  Saying network([](const at::Tensor& x_t) { return x_t; });
  const auto drawn = [&](const std::string& respacing, const dkdm::SamplerConfig& config) {
    return dkdm::sample(network, latent_process(respacing), config, SampleShape{1, 2, 2}, 0, 0, 1);
  };
  // "ddim67" is a stride of 15, whose last step would be 991 of what latent diffusion calls 66.
  for (const char* respacing : {"", "50", "ddim67"})
    CHECK_THROWS_WITH(drawn(respacing, latent_ddim(0)),
                      Catch::Contains(std::string("respacing \"") + respacing + "\"") &&
                          Catch::Contains("\"ddimN\", N a divisor of the chain's 1000 steps"));
  auto two = latent_ddim(0);
  two.steps_offset = 2;
  CHECK_THROWS_WITH(drawn("ddim50", two), Catch::Contains("steps_offset is 2, expected 0 or 1"));
  auto no_offset = latent_ddim(0);
  no_offset.steps_offset = 0;
  CHECK_NOTHROW(drawn("50", no_offset));
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
