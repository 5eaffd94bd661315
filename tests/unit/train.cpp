// The optimiser against its defining equations; schedules of learning rate and EMA.
#include <catch2/catch.hpp>
#include <cmath>

#include "config/experiment.hpp"
#include "dkdm/optimizer.hpp"
#include "model/state_dict.hpp"
#include "train/trainer.hpp"

namespace {

using namespace dkdm;

Params settings(std::map<std::string, Value> given) {
  given.try_emplace("steps", std::int64_t{100});
  return Params(config::train_table(), given, "test");
}

struct Line : torch::nn::Module {
  Line() {
    weight = register_parameter("weight", at::arange(6, at::kFloat).reshape({2, 3}) / 10);
    frozen = register_parameter("frozen", at::ones({2}), /*requires_grad=*/false);
  }
  at::Tensor weight, frozen;
};

}  // namespace

TEST_CASE("train: learning rate warms up linearly and decays to zero at the last step",
          "[unit][train]") {
  const auto cosine = settings(
      {{"lr", 0.1}, {"warmup_steps", std::int64_t{10}}, {"lr_decay", std::string("cosine")}});
  CHECK(train::learning_rate(cosine, 0) == Approx(0.01));
  CHECK(train::learning_rate(cosine, 9) == Approx(0.1));
  CHECK(train::learning_rate(cosine, 55) == Approx(0.05));  // half of the cosine: (55 - 10) / 90
  CHECK(train::learning_rate(cosine, 99) < 1e-4);
  CHECK(train::learning_rate(settings({{"lr", 0.1}}), 99) == 0.1);
}

TEST_CASE("train: EMA decay follows (1 + step) / (10 + step) until it reaches its rate",
          "[unit][train]") {
  const auto warm = settings({{"ema", 0.99}, {"ema_warmup", true}});
  CHECK(train::ema_decay(warm, 0) == Approx(0.1));
  CHECK(train::ema_decay(warm, 90) == Approx(0.91));
  CHECK(train::ema_decay(warm, 5000) == 0.99);
  CHECK(train::ema_decay(settings({{"ema", 0.99}}), 0) == 0.99);
}

TEST_CASE("train: latent diffusion's EMA counts its updates from 1", "[unit][train]") {
  // LitEma: num_updates += 1, then min(decay, (1 + num_updates) / (10 + num_updates)).
  const auto ldm = settings({{"ema_warmup", std::string("ldm")}});
  CHECK(train::ema_decay(ldm, 0) == Approx(2.0 / 11));
  CHECK(train::ema_decay(ldm, 1) == Approx(3.0 / 12));
  // (1 + n) / (10 + n) reaches 0.9999 at n = 89,990.
  CHECK(train::ema_decay(ldm, 89988) < 0.9999);
  CHECK(train::ema_decay(ldm, 89990) == 0.9999);
  CHECK_THROWS_WITH(settings({{"ema_warmup", std::string("LDM")}}),
                    Catch::Contains("expected one of true, false, ldm, got \"LDM\""));
}

TEST_CASE("train: an average that remembers its initial weights is warned of, with what would fit",
          "[unit][train]") {
  const auto of = [](double ema, std::int64_t steps, bool warmup = false) {
    return settings({{"ema", ema}, {"steps", steps}, {"ema_warmup", warmup}});
  };
  CHECK(train::ema_remainder(of(0.99, 100)) == Approx(std::pow(0.99, 100)));
  // Product of (1 + k) / (10 + k) for k = 0 … 9: 10! 9! / 19!.
  CHECK(train::ema_remainder(of(0.9999, 10, true)) == Approx(1.0 / 92378));
  const std::string warning = train::ema_warning(of(0.9999, 1000));
  CHECK_THAT(warning, Catch::Contains("leaves 90 % of the initial weights") &&
                          Catch::Contains("ema = 0.9954 leaves 1 %"));  // 0.01^(1/1000) = 0.99540…
  CHECK(train::ema_warning(of(0.9999, 1000, true)).empty());
  CHECK(train::ema_warning(of(0.999, 2303)).empty());        // 0.0999
  CHECK_FALSE(train::ema_warning(of(0.999, 2301)).empty());  // 0.1001
}

TEST_CASE("train: two AdamW steps follow the paper's equations", "[unit][train]") {
  Line line;
  const auto config = settings({{"lr", 0.01}, {"weight_decay", 0.1}, {"ema", 0.9}});
  train::Optimizer optimizer(line, config);
  // Loshchilov & Hutter 2019, Algorithm 2, in float64 beside it.
  at::Tensor w = line.weight.detach().to(at::kDouble), m = at::zeros_like(w), v = at::zeros_like(w);
  at::Tensor ema = w.clone();
  for (int step = 0; step < 2; ++step) {
    (line.weight * line.weight).sum().backward();
    const at::Tensor g = 2 * w;
    optimizer.step(step, optimizer.grad_norm());
    m = 0.9 * m + 0.1 * g;
    v = 0.999 * v + 0.001 * g * g;
    const auto m_hat = m / (1 - std::pow(0.9, step + 1));
    const auto v_hat = v / (1 - std::pow(0.999, step + 1));
    w = w - 0.01 * (m_hat / (v_hat.sqrt() + 1e-8) + 0.1 * w);
    ema = 0.9 * ema + 0.1 * w;
  }
  CHECK(at::allclose(line.weight.detach().to(at::kDouble), w, 1e-5, 1e-7));
  CHECK(at::allclose(optimizer.weights(true).at("weight").to(at::kDouble), ema, 1e-5, 1e-7));
  CHECK(at::equal(line.frozen, at::ones({2})));
}

TEST_CASE("train: weight decay reaches every trained tensor, biases and normalisation too",
          "[unit][train]") {
  // Without a gradient the decay is all that moves a tensor: w (1 - lr weight_decay).
  torch::nn::Sequential network(torch::nn::Conv2d(torch::nn::Conv2dOptions(2, 4, 1)),
                                torch::nn::GroupNorm(torch::nn::GroupNormOptions(2, 4)));
  for (const at::Tensor& tensor : network->parameters()) tensor.detach().fill_(1);
  train::Optimizer optimizer(*network, settings({{"lr", 0.5}, {"weight_decay", 0.01}}));
  optimizer.step(0, optimizer.grad_norm());
  REQUIRE(network->parameters().size() == 4);
  for (const auto& entry : network->named_parameters()) {
    INFO(entry.key());
    CHECK(entry.value().min().item<double>() == Approx(0.995));
    CHECK(entry.value().max().item<double>() == Approx(0.995));
  }
}

TEST_CASE("train: the gradient is clipped to its largest norm", "[unit][train]") {
  // The first Adam step does not see the gradient's length, its second moment does.
  Line line;
  train::Optimizer optimizer(line, settings({{"lr", 0.01}, {"grad_clip", 0.5}}));
  (line.weight * 100).sum().backward();
  const auto norm = optimizer.grad_norm();
  CHECK(norm.item<double>() == Approx(100 * std::sqrt(6.0)));
  optimizer.step(0, norm);
  const auto second = optimizer.state().at("exp_avg_sq/weight");
  CHECK(second.sum().item<double>() == Approx(0.001 * 0.25).epsilon(1e-3));
}

TEST_CASE("train: optimiser state restores to the same bits", "[unit][train]") {
  Line first, second;
  train::Optimizer a(first, settings({{"lr", 0.01}})), b(second, settings({{"lr", 0.01}}));
  const auto learn = [](Line& line, train::Optimizer& optimizer, int step) {
    line.weight.exp().sum().backward();
    optimizer.step(step, optimizer.grad_norm());
  };
  for (int step = 0; step < 3; ++step) learn(first, a, step);
  b.restore(a.state(), "memory");
  for (int step = 3; step < 6; ++step) {
    learn(first, a, step);
    learn(second, b, step);
  }
  CHECK(at::equal(first.weight, second.weight));
  CHECK(at::equal(a.weights(true).at("weight"), b.weights(true).at("weight")));
}

TEST_CASE("train: strict loading lists what does not fit and copies nothing", "[unit][train]") {
  std::map<std::string, at::Tensor> target{{"a", at::zeros({2})}, {"b", at::zeros({3})}};
  const std::map<std::string, at::Tensor> source{
      {"a", at::ones({2})}, {"b", at::ones({4})}, {"c", at::ones({1})}};
  try {
    model::copy_strictly(source, target, "weights.safetensors");
    FAIL("accepted");
  } catch (const DataError& error) {
    const std::string text = error.what();
    CHECK(text.find("weights.safetensors") == 0);
    CHECK(text.find("b has shape [4], expected [3]") != std::string::npos);
    CHECK(text.find("unexpected c") != std::string::npos);
  }
  CHECK(target.at("a").sum().item<double>() == 0);
}

TEST_CASE("train: advice on a loss that is not finite names what is there and what is off",
          "[unit][train]") {
  const auto first = train::divergence_advice(settings({{"lr", 0.002}}), false, "");
  CHECK(first ==
        "no checkpoint was made yet. What usually helps: a lower lr (now 0.002), grad_clip = "
        "1.0 (now off)");
  const auto later = train::divergence_advice(settings({{"lr", 0.1}, {"grad_clip", 2.0}}), true,
                                              "student_clip = true");
  CHECK(later ==
        "the last checkpoint is kept. What usually helps: a lower lr (now 0.1), a lower "
        "grad_clip (now 2.0), student_clip = true");
}
