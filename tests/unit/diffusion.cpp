// Diffusion: respacing, closed-form properties of the tables, and what the losses train.
// Agreement with the authors' numbers is tests/conformance/diffusion.cpp.
#include "dkdm/diffusion.hpp"

#include <ATen/ATen.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <functional>

#include "golden/u_fill.hpp"

namespace {

using dkdm::GaussianDiffusion;
using dkdm::golden::u_fill;
using Steps = std::vector<std::int64_t>;

at::Tensor times(std::vector<std::int64_t> t) { return at::tensor(t, at::kLong); }

}  // namespace

TEST_CASE("respacing: sections keep the reference's steps", "[unit][diffusion]") {
  // The authors' space_timesteps(1000, …), as listed in the specification of the pixel models.
  CHECK(dkdm::respaced_steps(1000, "50") ==
        Steps{0,   20,  41,  61,  82,  102, 122, 143, 163, 183, 204, 224, 245, 265, 285, 306, 326,
              347, 367, 387, 408, 428, 449, 469, 489, 510, 530, 550, 571, 591, 612, 632, 652, 673,
              693, 714, 734, 754, 775, 795, 816, 836, 856, 877, 897, 917, 938, 958, 979, 999});
  const Steps hundred = dkdm::respaced_steps(1000, "100");
  CHECK(hundred.size() == 100);
  CHECK(Steps(hundred.begin(), hundred.begin() + 8) == Steps{0, 10, 20, 30, 40, 50, 61, 71});
  CHECK(Steps(hundred.end() - 3, hundred.end()) == Steps{979, 989, 999});
  const Steps sections = dkdm::respaced_steps(1000, "10,15,20");
  CHECK(sections.size() == 45);
  CHECK(Steps(sections.begin(), sections.begin() + 6) == Steps{0, 37, 74, 111, 148, 185});
  CHECK(dkdm::respaced_steps(1000, "1000") == dkdm::respaced_steps(1000, ""));
  // A middle of .5 goes to the even neighbour: 6 steps, 3 kept, positions 0, 2.5, 5.
  CHECK(dkdm::respaced_steps(6, "3") == Steps{0, 2, 5});
}

TEST_CASE("respacing: ddimN takes the smallest stride of exactly N steps", "[unit][diffusion]") {
  const Steps fifty = dkdm::respaced_steps(1000, "ddim50");
  CHECK(fifty.size() == 50);
  CHECK(fifty[1] == 20);
  CHECK(fifty.back() == 980);
  CHECK(dkdm::respaced_steps(1000, "ddim100").back() == 990);
}

TEST_CASE("respacing: what cannot be met is refused by name", "[unit][diffusion]") {
  CHECK_THROWS_WITH(dkdm::respaced_steps(1000, "ddim37"),
                    Catch::Contains("ddim37") && Catch::Contains("nearest"));
  CHECK_THROWS_WITH(dkdm::respaced_steps(10, "4,6"),
                    Catch::Contains("cannot keep 6 of the 5 steps of section 2"));
  for (const char* text : {"fifty", "10,,20", "10,", "-5", "0", "5 0", "ddim", "ddimx"}) {
    CHECK_THROWS_AS(dkdm::respaced_steps(1000, text), dkdm::ConfigError);
  }
  CHECK_THROWS_WITH(GaussianDiffusion({"cosine", 1000, "1"}), Catch::Contains("at least 2"));
  CHECK_THROWS_WITH(GaussianDiffusion({"sqrt", 1000, ""}), Catch::Contains("\"sqrt\""));
  CHECK_THROWS_WITH(GaussianDiffusion({"cosine", 1, ""}), Catch::Contains("steps is 1"));
  CHECK_THROWS_WITH(GaussianDiffusion({"linear", 20, ""}), Catch::Contains("more than 20"));
}

TEST_CASE("schedule: alpha_bar falls from near one to near zero", "[unit][diffusion]") {
  for (const char* name : {"cosine", "linear"}) {
    const GaussianDiffusion process({name, 1000, ""});
    const auto& tables = process.tables();
    for (std::size_t t = 0; t < 1000; ++t) {
      CHECK(tables.alpha_bar[t] < tables.alpha_bar_prev[t]);
      // Both coefficients carry a point that lies on the mean path to the mean path.
      CHECK(tables.posterior_mean_coef_x0[t] +
                tables.posterior_mean_coef_xt[t] * tables.sqrt_alpha_bar[t] ==
            Approx(std::sqrt(tables.alpha_bar_prev[t])).epsilon(1e-10));
    }
    CHECK(tables.alpha_bar.front() > 0.9998);
    CHECK(tables.alpha_bar.back() < 1e-4);
  }
}

TEST_CASE("schedule: respacing leaves alpha_bar of the kept steps as it was", "[unit][diffusion]") {
  const GaussianDiffusion full({"cosine", 1000, ""}), some({"cosine", 1000, "50"});
  CHECK(some.num_steps() == 50);
  for (std::size_t k = 0; k < 50; ++k) {
    const auto t = static_cast<std::size_t>(some.timestep_map()[k]);
    CHECK(some.tables().alpha_bar[k] == Approx(full.tables().alpha_bar[t]).epsilon(1e-9));
  }
  CHECK(at::equal(some.model_timesteps(times({0, 25, 49})), times({0, 510, 999})));
  CHECK(at::equal(full.model_timesteps(times({0, 25, 49})), times({0, 25, 49})));
}

TEST_CASE("diffusion: the true eps leads back to x0", "[unit][diffusion]") {
  const GaussianDiffusion process({"cosine", 1000, ""});
  const at::Tensor x0 = u_fill(1, {3, 3, 4, 4}), eps = u_fill(2, {3, 3, 4, 4}, 1.7);
  const at::Tensor t = times({0, 400, 800});
  const at::Tensor x_t = process.q_sample(x0, t, eps);
  const auto p = process.p_mean_variance(eps, x_t, t, false);
  CHECK(at::allclose(p.pred_xstart, x0, 1e-4, 1e-5));
  CHECK(at::allclose(p.mean, process.posterior_mean(x0, x_t, t), 1e-4, 1e-5));
  // DDIM with eta 0 then moves along the same x0 and eps to the step before.
  const at::Tensor back = process.ddim_step(p, x_t, t, 0, {});
  CHECK(at::allclose(back.slice(0, 1), process.q_sample(x0, t - 1 + (t == 0), eps).slice(0, 1),
                     1e-3, 1e-4));
  CHECK(at::allclose(back[0], x0[0], 1e-4, 1e-5));
}

TEST_CASE("diffusion: v of -1, 0 and 1 spans posterior variance to beta", "[unit][diffusion]") {
  const GaussianDiffusion process({"cosine", 1000, ""});
  const at::Tensor x_t = u_fill(1, {3, 1, 2, 2});
  const at::Tensor v = at::tensor({-1.f, 0.f, 1.f}).view({3, 1, 1, 1}).expand({3, 1, 2, 2});
  const auto p = process.p_mean_variance(at::cat({x_t, v}, 1), x_t, times({500, 500, 500}), true);
  const double low = process.tables().posterior_log_variance_clipped[500];
  const double high = process.tables().log_beta[500];
  CHECK(p.log_variance[0].mean().item<double>() == Approx(low).epsilon(1e-5));
  CHECK(p.log_variance[1].mean().item<double>() == Approx((low + high) / 2).epsilon(1e-5));
  CHECK(p.log_variance[2].mean().item<double>() == Approx(high).epsilon(1e-5));
}

TEST_CASE("diffusion: with variance_range = unit, v of 0 and 1 spans the same variances",
          "[unit][diffusion]") {
  const GaussianDiffusion process({.variance_range = "unit"});
  const at::Tensor x_t = u_fill(1, {3, 1, 2, 2});
  const at::Tensor v = at::tensor({0.f, 0.5f, 1.f}).view({3, 1, 1, 1}).expand({3, 1, 2, 2});
  const auto p = process.p_mean_variance(at::cat({x_t, v}, 1), x_t, times({500, 500, 500}), true);
  const double low = process.tables().posterior_log_variance_clipped[500];
  const double high = process.tables().log_beta[500];
  CHECK(p.log_variance[0].mean().item<double>() == Approx(low).epsilon(1e-5));
  CHECK(p.log_variance[1].mean().item<double>() == Approx((low + high) / 2).epsilon(1e-5));
  CHECK(p.log_variance[2].mean().item<double>() == Approx(high).epsilon(1e-5));
  CHECK_THROWS_WITH(GaussianDiffusion({.variance_range = "half"}),
                    Catch::Contains("\"half\"") && Catch::Contains("\"unit\""));
}

TEST_CASE("diffusion: no noise is added at t = 0", "[unit][diffusion]") {
  const GaussianDiffusion process({"cosine", 1000, ""});
  const at::Tensor x_t = u_fill(1, {2, 1, 2, 2}), z = u_fill(2, {2, 1, 2, 2});
  const at::Tensor t = times({0, 1});
  const auto p = process.p_mean_variance(u_fill(3, {2, 2, 2, 2}), x_t, t, true);
  const at::Tensor ancestral = process.ancestral_step(p, t, z);
  CHECK(at::equal(ancestral[0], p.mean[0]));
  CHECK_FALSE(at::equal(ancestral[1], p.mean[1]));
  CHECK(at::equal(process.ddim_step(p, x_t, t, 1, z)[0], p.pred_xstart[0]));
}

TEST_CASE("diffusion: images keep their memory format", "[unit][diffusion]") {
  const GaussianDiffusion process({"cosine", 1000, ""});
  const auto format = at::MemoryFormat::ChannelsLast;
  const at::Tensor x = u_fill(1, {2, 3, 4, 4}).contiguous(format), t = times({3, 700});
  const auto p = process.p_mean_variance(u_fill(2, {2, 6, 4, 4}).contiguous(format), x, t, true);
  for (const at::Tensor& result :
       {process.q_sample(x, t, x), p.mean, p.pred_xstart, p.log_variance,
        process.ancestral_step(p, t, x), process.ddim_step(p, x, t, 0.5, x)}) {
    CHECK(result.is_contiguous(format));
  }
}

TEST_CASE("diffusion: a wrong output size is named", "[unit][diffusion]") {
  const GaussianDiffusion process({"cosine", 1000, ""});
  const at::Tensor x_t = at::zeros({2, 3, 8, 8}), output = at::zeros({2, 4, 8, 8});
  CHECK_THROWS_WITH(process.p_mean_variance(output, x_t, times({1, 2}), true),
                    Catch::Contains("[2, 4, 8, 8]") && Catch::Contains("[2, 3, 8, 8]"));
}

TEST_CASE("losses: mse trains eps alone, the bound v alone", "[unit][diffusion]") {
  const GaussianDiffusion process({"cosine", 1000, ""});
  const at::Tensor x = u_fill(1, {3, 1, 4, 4}), eps = u_fill(2, {3, 1, 4, 4});
  const at::Tensor t = times({0, 300, 900});
  const at::Tensor output = u_fill(3, {3, 2, 4, 4}).requires_grad_(true);
  const auto teacher = process.p_mean_variance(u_fill(4, {3, 2, 4, 4}), x, t, true);
  const auto gradient = [&](const dkdm::LossTerms& terms) {
    output.mutable_grad() = at::Tensor();
    terms.loss.mean().backward();
    return output.grad().clone();
  };
  const auto hybrid = [&](double weight) {
    return gradient(dkdm::hybrid_loss(process, output, x, x, t, eps, weight));
  };
  const auto distil = [&](double lambda) {
    return gradient(dkdm::distillation_loss(process, output, x, t, teacher, false, lambda));
  };
  for (const std::function<at::Tensor(double)>& loss :
       {std::function<at::Tensor(double)>(hybrid), std::function<at::Tensor(double)>(distil)}) {
    const at::Tensor none = loss(0), once = loss(1), twice = loss(2);
    CHECK(at::equal(once.narrow(1, 0, 1), none.narrow(1, 0, 1)));
    CHECK(none.narrow(1, 1, 1).abs().max().item<double>() == 0);
    CHECK(once.narrow(1, 1, 1).abs().max().item<double>() > 0);
    CHECK(at::allclose(twice.narrow(1, 1, 1), 2 * once.narrow(1, 1, 1), 1e-5, 1e-9));
  }
}

TEST_CASE("losses: at t = 0 the second term is a likelihood or a KL, as asked",
          "[unit][diffusion]") {
  const GaussianDiffusion process({"cosine", 1000, ""});
  const at::Tensor x = u_fill(1, {3, 1, 4, 4}), output = u_fill(3, {3, 2, 4, 4});
  const at::Tensor t = times({0, 0, 300});
  const auto bits = [&](const at::Tensor& nats) { return nats.mean({1, 2, 3}) / std::log(2.0); };
  const auto p = process.p_mean_variance(output, x, t, false);
  const auto kl = [&](const at::Tensor& mean, const at::Tensor& log_variance) {
    const at::Tensor d = log_variance - p.log_variance;
    return bits((d.exp() - d - 1 + (mean - p.mean).square() * (-p.log_variance).exp()) / 2);
  };
  // A bin of width 2/255 around a value within [-0.999, 0.999] holds about its width times the
  // density, where sigma is several bins: sigma = 1 below.
  const auto likelihood = [&](const at::Tensor& image, const dkdm::Distribution& q) {
    const at::Tensor square = (image - q.mean).square() * (-q.log_variance).exp();
    return bits((square + q.log_variance + std::log(2 * M_PI)) / 2 - std::log(2.0 / 255));
  };

  // Data-based: Eq. 9 as printed has the KL everywhere.
  const at::Tensor posterior = process.posterior_log_variance(t, 4);
  const auto printed = dkdm::hybrid_loss(process, output, x, x, t, x, 1, /*decode=*/false);
  CHECK(at::allclose(printed.vb, kl(process.posterior_mean(x, x, t), posterior), 1e-4, 1e-6));
  const auto decoded = dkdm::hybrid_loss(process, output, x, x, t, x, 1);
  CHECK_FALSE(at::allclose(decoded.vb.slice(0, 0, 2), printed.vb.slice(0, 0, 2), 1e-2, 1e-2));
  CHECK(at::equal(decoded.vb[2], printed.vb[2]));

  // Distillation: the KL everywhere, or with x_prev its likelihood. v = 33 makes sigma 1 at t = 0:
  // log sigma^2 = -10.41 + 0.32 v.
  const auto teacher = process.p_mean_variance(u_fill(4, {3, 2, 4, 4}), x, t, true);
  const auto alike = dkdm::distillation_loss(process, output, x, t, teacher, false, 1);
  CHECK(at::allclose(alike.vb, kl(teacher.mean, teacher.log_variance), 1e-4, 1e-6));
  const double half =
      (process.tables().log_beta[0] - process.tables().posterior_log_variance_clipped[0]) / 2;
  const double middle = process.tables().log_beta[0] - half;
  const at::Tensor wide = at::cat({output.narrow(1, 0, 1), at::full_like(x, -middle / half)}, 1);
  const at::Tensor image = u_fill(5, {3, 1, 4, 4}, 0.9);
  const auto with = dkdm::distillation_loss(process, wide, x, t, teacher, false, 1, image);
  const auto without = dkdm::distillation_loss(process, wide, x, t, teacher, false, 1);
  const auto expected = likelihood(image, process.p_mean_variance(wide, x, t, false));
  // The reference's tanh form of the normal distribution is good to a per cent here.
  CHECK(at::allclose(with.vb.slice(0, 0, 2), expected.slice(0, 0, 2), 1e-2, 1e-2));
  CHECK(at::equal(with.vb[2], without.vb[2]));
}

TEST_CASE("losses: an output without variance has mse only", "[unit][diffusion]") {
  const GaussianDiffusion process({"cosine", 1000, ""});
  const at::Tensor x = u_fill(1, {2, 3, 4, 4}), t = times({0, 500});
  const at::Tensor output = u_fill(2, {2, 3, 4, 4});
  const auto terms = dkdm::hybrid_loss(process, output, x, x, t, x, 1);
  CHECK(at::allclose(terms.loss, (output - x).square().mean({1, 2, 3})));
  CHECK(at::equal(terms.vb, at::zeros({2})));
  const auto teacher = process.p_mean_variance(u_fill(3, {2, 6, 4, 4}), x, t, true);
  const auto distilled = dkdm::distillation_loss(process, output, x, t, teacher, false, 1);
  CHECK(at::allclose(distilled.loss, (output - teacher.eps).square().mean({1, 2, 3})));
}

TEST_CASE("losses: a student equal to its teacher, clipped alike, costs nothing",
          "[unit][diffusion]") {
  const GaussianDiffusion process({"cosine", 1000, ""});
  // x_t beyond [-1,1], so that clipping acts at t = 0.
  const at::Tensor x = u_fill(1, {3, 3, 4, 4}, 1.5), output = u_fill(2, {3, 6, 4, 4});
  const at::Tensor t = times({0, 500, 999});
  const auto teacher = process.p_mean_variance(output, x, t, true);
  const auto same = dkdm::distillation_loss(process, output, x, t, teacher, true, 1);
  CHECK(same.loss.abs().max().item<double>() < 1e-6);
  // The authors' code leaves the student unclipped. At t = 0 the mean is pred_xstart, so the KL of
  // two Gaussians of one variance is what clipping cut off, squared, over 2 sigma^2 ln 2 bits.
  const auto authors = dkdm::distillation_loss(process, output, x, t, teacher, false, 1);
  const auto student = process.p_mean_variance(output, x, t, false);
  const at::Tensor cut = student.pred_xstart[0] - teacher.pred_xstart[0];
  const at::Tensor bits = cut.square() * (-student.log_variance[0]).exp() / (2 * std::log(2.0));
  CHECK(cut.abs().max().item<double>() > 0.1);
  CHECK(authors.vb[0].item<double>() == Approx(bits.mean().item<double>()).epsilon(1e-4));
}
