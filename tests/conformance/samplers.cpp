// Whole sampling chains against the authors' loops: every state of tests/golden/samplers.json, made
// by make_samplers.py with the noise of dkdm::sample and the network below.
#include "dkdm/sampler.hpp"

#include <ATen/ATen.h>

#include <catch2/catch.hpp>

#include "diffusion/sampler_kind.hpp"
#include "fixtures/latent_unet.hpp"
#include "golden/packed.hpp"

namespace {

using namespace dkdm;
using golden::row_error;
using golden::unpacked;

const nlohmann::json& reference() {
  static const nlohmann::json file = golden::read_json("samplers.json");
  return file;
}

// eps = 0.7 x + 0.2 sin(3 x + 0.01 t), v = 0.5 sin(2 x - 0.02 t); remembers the states it is shown.
class Recording final : public Denoiser {
 public:
  std::vector<at::Tensor> states;
  at::Tensor forward(const at::Tensor& x, const at::Tensor& t) override {
    states.push_back(x);
    const at::Tensor time = t.to(at::kFloat).view({-1, 1, 1, 1});
    return at::cat(
        {0.7 * x + 0.2 * at::sin(3 * x + 0.01 * time), 0.5 * at::sin(2 * x - 0.02 * time)}, 1);
  }
};

// All states of a chain, the noise first: [steps + 1, 2, 3, 3, 3].
at::Tensor chain(const SamplerConfig& config, const std::string& schedule = "cosine") {
  const bool solver = config.sampler == "dpm-solver";
  const GaussianDiffusion process({schedule, 1000, solver ? "" : "10"});
  Recording network;
  const at::Tensor last =
      sample(network, process, config, SampleShape{3, 3, 3}, /*seed=*/11, /*first=*/3, /*count=*/2);
  network.states.push_back(last);
  return at::stack(network.states);
}

}  // namespace

TEST_CASE("samplers: each state of a chain is the authors'", "[conformance][sampler]") {
  const auto check = [](const char* name, const SamplerConfig& config, double called_limit,
                        const std::string& schedule = "cosine") {
    const at::Tensor states = chain(config, schedule);
    const auto& expected = reference().at(name);
    const double exact = row_error(states, unpacked(expected.at("exact")));
    const double called = row_error(states, unpacked(expected.at("called")));
    const double own = row_error(unpacked(expected.at("called")), unpacked(expected.at("exact")));
    INFO(name << ": relative error against the reference in float64 " << exact
              << ", in float32 as it is called " << called << "; between these two " << own);
    CHECK(exact < 2e-6);
    CHECK(called < called_limit);
  };
  check("ancestral", {"ancestral", 0, true}, 2e-6);
  check("ancestral_unclipped", {"ancestral", 0, false}, 2e-6);
  // The reference takes DDIM's coefficients from float32 tables: with eta 1, most of
  // 1 - alpha_bar_prev - sigma^2 cancels.
  check("ddim_eta_0", {"ddim", 0, true}, 1e-5);
  check("ddim_eta_1", {"ddim", 1, true}, 1e-3);
  // And it interpolates DPM-Solver's log alpha in float32, where sigma of the last time has four
  // digits.
  const auto solver = [](std::int64_t steps, bool threshold = true) {
    return SamplerConfig{"dpm-solver", 0, threshold, steps};
  };
  check("dpm_solver_20", solver(SamplerConfig().solver_steps), 4e-5);
  check("dpm_solver_10", solver(10), 4e-5);
  check("dpm_solver_5", solver(5), 4e-5);
  check("dpm_solver_10_linear", solver(10), 4e-5, "linear");
  check("dpm_solver_10_unthresholded", solver(10, false), 4e-5);
}

TEST_CASE("samplers: latent diffusion's DDIM with its network, ten steps",
          "[conformance][sampler]") {
  // DDIMSampler of CompVis/latent-diffusion with UNetModel of base width 32, in PyTorch 1.13 on the
  // CPU: filled as golden/make_latent.py fills it, eta 0, steps 901, 801, … 1.
  const auto network = fixtures::golden_latent_unet();
  REQUIRE(model::count_parameters(*network) == 5616931);
  const at::NoGradGuard no_grad;
  const GaussianDiffusion process({"scaled_linear", 1000, "ddim10", 0.0015, 0.0195});
  SamplerConfig config{"ddim", 0, /*clip_denoised=*/false};
  config.steps_offset = 1;
  config.set_alpha_to_one = false;
  const auto run = diffusion::sampler_kind("ddim").begin(process, config);

  at::Tensor x = golden::v_fill(999, {2, 3, 16, 16}, std::sqrt(12.0));
  const auto element = [&](std::int64_t i) { return x.contiguous().flatten()[i].item<double>(); };
  const auto about = [](double value) { return Approx(value).epsilon(1e-3); };
  const auto no_noise = [](std::uint32_t) { return at::Tensor(); };
  x = run->step(*network, x, 0, no_noise);
  CHECK(x.mean().item<double>() == about(-0.109851));
  CHECK(x.std(/*unbiased=*/false).item<double>() == about(2.31395));
  CHECK(element(0) == about(-1.68702));
  CHECK(element(1) == about(1.20633));
  CHECK(element(2) == about(-0.801596));
  CHECK(element(512) == about(1.98516));
  for (std::int64_t index = 1; index < 10; ++index) x = run->step(*network, x, index, no_noise);
  CHECK(x.mean().item<double>() == about(-3.30857));
  CHECK(x.std(/*unbiased=*/false).item<double>() == about(39.0048));
  CHECK(element(0) == about(-34.376));
  CHECK(element(1) == about(13.8454));
  CHECK(element(2) == about(-16.9442));
  CHECK(element(1535) == about(-19.5341));
}
