// Diffusion against the authors' Python: tests/golden/diffusion.json, made by make_diffusion.py
// (its provenance is inside). Entries quoted are [n, 1, 2, 3] of tensors filled by u(i, j).
#include "dkdm/diffusion.hpp"

#include <ATen/ATen.h>

#include <catch2/catch.hpp>
#include <fstream>
#include <nlohmann/json.hpp>

#include "golden/u_fill.hpp"

namespace {

using dkdm::GaussianDiffusion;
using dkdm::golden::u_fill;
using nlohmann::json;

const json& golden() {
  static const json file =
      json::parse(std::ifstream(DKDM_SOURCE_DIR "/tests/golden/diffusion.json"));
  return file;
}

// float32 arithmetic on both sides, magnified by up to sqrt(1 / alpha_bar) = 2e4 at t = 999.
void check_close(const at::Tensor& values, const json& expected, double relative = 1e-4,
                 double absolute = 1e-6) {
  REQUIRE(values.size(0) == static_cast<std::int64_t>(expected.size()));
  for (std::size_t n = 0; n < expected.size(); ++n) {
    INFO("entry " << n);
    CHECK(values[static_cast<std::int64_t>(n)].item<double>() ==
          Approx(expected[n].get<double>()).epsilon(relative).margin(absolute));
  }
}

at::Tensor pick(const at::Tensor& x, std::int64_t channel = 1) {
  return x.select(1, channel).select(1, 2).select(1, 3);
}

void check_distribution(const dkdm::Distribution& p, const json& expected) {
  check_close(pick(p.mean), expected["mean"]);
  check_close(pick(p.log_variance), expected["log_variance"]);
  check_close(pick(p.pred_xstart), expected["pred_xstart"]);
}

void check_terms(const dkdm::LossTerms& terms, const json& expected) {
  check_close(terms.mse, expected["mse"]);
  check_close(terms.vb, expected["vb"]);
  check_close(terms.loss, expected["loss"]);
}

// The inputs of every golden value.
struct Inputs {
  GaussianDiffusion full{{"cosine", 1000, ""}}, fifty{{"cosine", 1000, "50"}};
  at::Tensor x0 = u_fill(6000, {3, 3, 4, 4}), noise = u_fill(6001, {3, 3, 4, 4}, 1.7);
  at::Tensor a = u_fill(6002, {3, 6, 4, 4}, 1.2), b = u_fill(6004, {3, 6, 4, 4}, 1.1);
  at::Tensor x_t = u_fill(6003, {3, 3, 4, 4}, 1.5);
  at::Tensor t = at::tensor({0, 500, 999}, at::kLong), t50 = at::tensor({0, 25, 49}, at::kLong);
};

}  // namespace

TEST_CASE("diffusion tables: equal to the authors' in float64", "[conformance][diffusion]") {
  for (const json& expected : golden()["tables"]) {
    const GaussianDiffusion process(
        {expected["schedule"], 1000, expected["respacing"].get<std::string>()});
    INFO(expected["schedule"] << " respaced by \"" << expected["respacing"] << "\"");
    REQUIRE(process.num_steps() == expected["steps"].get<std::int64_t>());
    if (!expected["timestep_map"].empty()) {
      CHECK(process.timestep_map() == expected["timestep_map"].get<std::vector<std::int64_t>>());
    }
    const GaussianDiffusion::Tables& tables = process.tables();
    const std::map<std::string, const std::vector<double>*> named{
        {"beta", &tables.beta},
        {"alpha_bar", &tables.alpha_bar},
        {"alpha_bar_prev", &tables.alpha_bar_prev},
        {"log_beta", &tables.log_beta},
        {"sqrt_alpha_bar", &tables.sqrt_alpha_bar},
        {"sqrt_one_minus_alpha_bar", &tables.sqrt_one_minus_alpha_bar},
        {"sqrt_recip_alpha_bar", &tables.sqrt_recip_alpha_bar},
        {"sqrt_recipm1_alpha_bar", &tables.sqrt_recipm1_alpha_bar},
        {"posterior_variance", &tables.posterior_variance},
        {"posterior_log_variance_clipped", &tables.posterior_log_variance_clipped},
        {"posterior_mean_coef_x0", &tables.posterior_mean_coef_x0},
        {"posterior_mean_coef_xt", &tables.posterior_mean_coef_xt}};
    REQUIRE(named.size() == expected["values"].size());
    for (const auto& [name, table] : named) {
      double sum = 0;
      for (const double value : *table) sum += value;
      // Rounding of cos and of 1000-fold products: relative 1e-9 leaves room for another libm.
      CHECK(sum == Approx(expected["sums"][name].get<double>()).epsilon(1e-9));
      for (std::size_t i = 0; i < expected["index"].size(); ++i) {
        INFO(name << " at " << expected["index"][i]);
        CHECK(table->at(expected["index"][i].get<std::size_t>()) ==
              Approx(expected["values"][name][i].get<double>()).epsilon(1e-9).margin(1e-15));
      }
    }
  }
}

TEST_CASE("diffusion maths: equal to the authors'", "[conformance][diffusion]") {
  const Inputs in;
  check_close(pick(in.full.q_sample(in.x0, in.t, in.noise)), golden()["q_sample"]);
  const auto clipped = in.full.p_mean_variance(in.a, in.x_t, in.t, true);
  check_distribution(clipped, golden()["clipped"]);
  check_distribution(in.full.p_mean_variance(in.a, in.x_t, in.t, false), golden()["unclipped"]);
  check_distribution(in.full.p_mean_variance(in.a.narrow(1, 0, 3), in.x_t, in.t, true),
                     golden()["fixed_variance"]);
  CHECK(at::equal(clipped.eps, in.a.narrow(1, 0, 3)));
}

TEST_CASE("samplers: one step equal to the authors'", "[conformance][diffusion]") {
  const Inputs in;
  const auto p = in.full.p_mean_variance(in.a, in.x_t, in.t, true);
  check_close(pick(in.full.ancestral_step(p, in.t, in.noise)), golden()["ancestral"]);
  check_close(pick(in.full.ddim_step(p, in.x_t, in.t, 0, in.noise)), golden()["ddim_eta_0"]);
  check_close(pick(in.full.ddim_step(p, in.x_t, in.t, 1, in.noise)), golden()["ddim_eta_1"]);
  const auto p50 = in.fifty.p_mean_variance(in.a, in.x_t, in.t50, true);
  check_close(pick(in.fifty.ancestral_step(p50, in.t50, in.noise)), golden()["ancestral_50"]);
}

TEST_CASE("hybrid loss: equal to the authors'", "[conformance][diffusion]") {
  const Inputs in;
  const auto loss = [&](const GaussianDiffusion& process, const at::Tensor& t) {
    const at::Tensor x_t = process.q_sample(in.x0, t, in.noise);
    return dkdm::hybrid_loss(process, in.a, in.x0, x_t, t, in.noise, 1);
  };
  check_terms(loss(in.full, in.t), golden()["hybrid"]);
  check_terms(loss(in.fifty, in.t50), golden()["hybrid_50"]);
}

TEST_CASE("distillation loss: equal to the authors', gradient included",
          "[conformance][diffusion]") {
  const Inputs in;
  const auto teacher = in.full.p_mean_variance(in.a, in.x_t, in.t, true);
  for (const bool student_clip : {false, true}) {
    const json& expected = golden()[student_clip ? "distil_student_clip" : "distil"];
    const at::Tensor output = in.b.clone().requires_grad_(true);
    const auto terms =
        dkdm::distillation_loss(in.full, output, in.x_t, in.t, teacher, student_clip, 1);
    check_terms(terms, expected);
    terms.loss.mean().backward();
    check_close(pick(output.grad()), expected["gradient_eps"]);
    // Where teacher and student agree the gradient is a difference of near-equal f32 numbers.
    check_close(pick(output.grad(), 4), expected["gradient_v"], 1e-3, 1e-10);
  }
  check_terms(dkdm::distillation_loss(in.full, in.a, in.x_t, in.t, teacher, false, 1),
              golden()["distil_self"]);
}
