// Diffusion against the authors' Python in float64: tests/golden/diffusion.json, made by
// make_diffusion.py (its provenance is inside). Inputs are the fill u(i, j); whole tensors are
// compared, row by row.
#include "dkdm/diffusion.hpp"

#include <ATen/ATen.h>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "golden/packed.hpp"
#include "golden/u_fill.hpp"

namespace {

using dkdm::GaussianDiffusion;
using dkdm::golden::row_error;
using dkdm::golden::u_fill;
using dkdm::golden::unpacked;
using nlohmann::json;

const json& golden() {
  static const json file = dkdm::golden::read_json("diffusion.json");
  return file;
}

// float32 arithmetic, a few roundings of 6e-8 one after another. What sqrt(1 / alpha_bar) = 2e4
// magnifies at t = 999 it magnifies in the value as well, so the error stays relative to the row's
// norm.
constexpr double kRounding = 2e-6;

void check_close(const at::Tensor& values, const json& expected, double tolerance = kRounding) {
  const double error = row_error(values, unpacked(expected));
  INFO("largest relative error of a row " << error);
  CHECK(error < tolerance);
}

void check_distribution(const dkdm::Distribution& p, const json& expected) {
  check_close(p.mean, expected["mean"]);
  check_close(p.log_variance, expected["log_variance"]);
  check_close(p.pred_xstart, expected["pred_xstart"]);
}

void check_term(const char* name, const at::Tensor& values, const json& expected) {
  const auto wanted = expected[name].get<std::vector<double>>();
  const double error = row_error(values.unsqueeze(1), at::tensor(wanted, at::kDouble).unsqueeze(1));
  INFO(name << ": largest relative error of a row " << error);
  // A KL is the square of two means' distance in sigmas, of which the means' rounding, 6e-8, is
  // 1e-5 at the smallest sigma, 0.005: so much of the KL's root. The rest is a few roundings of a
  // sum.
  for (std::size_t n = 0; n < wanted.size(); ++n) {
    CHECK(values[static_cast<std::int64_t>(n)].item<double>() ==
          Approx(wanted[n]).epsilon(1e-6).margin(1e-5 * std::sqrt(std::abs(wanted[n])) + 1e-9));
  }
}

// Terms, and the gradient of the mean loss with respect to `output`.
void check_loss(const dkdm::LossTerms& terms, const at::Tensor& output, const json& expected) {
  check_term("mse", terms.mse, expected);
  check_term("vb", terms.vb, expected);
  check_term("loss", terms.loss.detach(), expected);
  terms.loss.mean().backward();
  const at::Tensor gradient = unpacked(expected["gradient"]);
  const std::int64_t c = gradient.size(1) / 2;
  const auto half = [&](const at::Tensor& x, int which) { return x.narrow(1, which * c, c); };
  const double of_eps = row_error(half(output.grad(), 0), half(gradient, 0));
  const double of_v = row_error(half(output.grad(), 1), half(gradient, 1));
  INFO("relative error of the gradient by eps " << of_eps << ", by v " << of_v);
  CHECK(of_eps < kRounding);
  // At t = 999 two log variances near -1e-3, hence rounded to 6e-11, differ by as little as 1e-6,
  // and the gradient is that difference.
  CHECK(of_v < 5e-4);
}

// The inputs of every golden value.
struct Inputs {
  GaussianDiffusion full{{"cosine", 1000, ""}}, fifty{{"cosine", 1000, "50"}};
  at::Tensor x0 = u_fill(6000, {3, 3, 4, 4}), noise = u_fill(6001, {3, 3, 4, 4}, 1.7);
  at::Tensor a = u_fill(6002, {3, 6, 4, 4}, 1.2), b = u_fill(6004, {3, 6, 4, 4}, 1.1);
  at::Tensor x_t = u_fill(6003, {3, 3, 4, 4}, 1.5);
  at::Tensor grey = (u_fill(6005, {3, 3, 4, 4}, 140) + 127.5).round().clamp(0, 255) / 127.5 - 1;
  at::Tensor t = at::tensor({0, 500, 999}, at::kLong), t50 = at::tensor({0, 25, 49}, at::kLong);
};

// Σ (1.5 + u(i, k) / 2) ln |table[k]|: a relative error of any entry shows in it.
double log_sum(const std::vector<double>& table, std::int64_t i) {
  long double sum = 0;
  for (std::size_t k = 0; k < table.size(); ++k) {
    if (table[k] == 0) continue;
    const double u = dkdm::golden::u(i, static_cast<std::int64_t>(k));
    sum += static_cast<long double>((1.5 + 0.5 * u) * std::log(std::abs(table[k])));
  }
  return static_cast<double>(sum);
}

}  // namespace

TEST_CASE("diffusion tables: equal to the authors' in float64", "[conformance][diffusion]") {
  REQUIRE(golden()["tables"].size() == 10);
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
      INFO(name);
      REQUIRE(table->size() == expected["steps"].get<std::size_t>());
      for (const int which : {0, 1}) {
        CHECK(std::abs(log_sum(*table, 8000 + which) -
                       expected["log_sums"][name][which].get<double>()) < 1e-11);
      }
      for (std::size_t i = 0; i < expected["index"].size(); ++i) {
        INFO("entry " << expected["index"][i]);
        // The same cos in both: one ulp of another libm is 3e-12 of the first cosine betas.
        CHECK(table->at(expected["index"][i].get<std::size_t>()) ==
              Approx(expected["values"][name][i].get<double>()).epsilon(1e-12).margin(0));
      }
    }
  }
}

TEST_CASE("diffusion maths: equal to the authors'", "[conformance][diffusion]") {
  const Inputs in;
  check_close(in.full.q_sample(in.x0, in.t, in.noise), golden()["q_sample"]);
  check_close(in.full.posterior_mean(in.x0, in.x_t, in.t), golden()["posterior"]["mean"]);
  check_close(in.full.posterior_log_variance(in.t, 4).expand_as(in.x_t),
              golden()["posterior"]["log_variance"]);
  const auto clipped = in.full.p_mean_variance(in.a, in.x_t, in.t, true);
  check_distribution(clipped, golden()["clipped"]);
  check_distribution(in.full.p_mean_variance(in.a, in.x_t, in.t, false), golden()["unclipped"]);
  check_distribution(in.fifty.p_mean_variance(in.a, in.x_t, in.t50, true), golden()["clipped_50"]);
  check_distribution(in.full.p_mean_variance(in.a.narrow(1, 0, 3), in.x_t, in.t, true),
                     golden()["fixed_variance"]);
  CHECK(at::equal(clipped.eps, in.a.narrow(1, 0, 3)));
}

TEST_CASE("samplers: one step equal to the authors'", "[conformance][diffusion]") {
  const Inputs in;
  const auto p = in.full.p_mean_variance(in.a, in.x_t, in.t, true);
  check_close(in.full.ancestral_step(p, in.t, in.noise), golden()["ancestral"]);
  check_close(in.full.ddim_step(p, in.x_t, in.t, 0, in.noise), golden()["ddim_eta_0"]);
  // The reference takes 1 - alpha_bar_prev - sigma^2 in float32, nearly all of which cancels at t =
  // 0.
  check_close(in.full.ddim_step(p, in.x_t, in.t, 1, in.noise), golden()["ddim_eta_1"], 1e-5);
  const auto p50 = in.fifty.p_mean_variance(in.a, in.x_t, in.t50, true);
  check_close(in.fifty.ancestral_step(p50, in.t50, in.noise), golden()["ancestral_50"]);
}

TEST_CASE("hybrid loss: equal to the authors', gradient included", "[conformance][diffusion]") {
  const Inputs in;
  const auto check = [&](const char* name, const GaussianDiffusion& process, const at::Tensor& x0,
                         const at::Tensor& t, double vb_weight) {
    INFO(name);
    const at::Tensor output = in.a.clone().requires_grad_(true);
    const at::Tensor x_t = process.q_sample(x0, t, in.noise);
    // The authors' rescaled loss reports its second term with the weight in it.
    auto terms = dkdm::hybrid_loss(process, output, x0, x_t, t, in.noise, vb_weight);
    terms.vb = terms.vb * vb_weight;
    check_loss(terms, output, golden()[name]);
  };
  check("hybrid", in.full, in.x0, in.t, 1);
  check("hybrid_50", in.fifty, in.x0, in.t50, 1);
  check("hybrid_50_rescaled", in.fifty, in.x0, in.t50, 50 / 1000.0);
  check("hybrid_decoder", in.full, in.grey, at::zeros({3}, at::kLong), 1);
}

TEST_CASE("distillation loss: equal to the authors', gradient included",
          "[conformance][diffusion]") {
  const Inputs in;
  const auto check = [&](const char* name, const GaussianDiffusion& process,
                         const at::Tensor& student, const at::Tensor& t, bool student_clip,
                         double lambda) {
    INFO(name);
    const auto teacher = process.p_mean_variance(in.a, in.x_t, t, true);
    const at::Tensor output = student.clone().requires_grad_(true);
    auto terms = dkdm::distillation_loss(process, output, in.x_t, t, teacher, student_clip, lambda);
    terms.vb = terms.vb * lambda;
    check_loss(terms, output, golden()[name]);
  };
  check("distil", in.full, in.b, in.t, false, 1);
  check("distil_self", in.full, in.a, in.t, false, 1);
  check("distil_student_clip", in.full, in.b, in.t, true, 1);
  check("distil_50_rescaled", in.fifty, in.b, in.t50, false, 50 / 1000.0);
}
