// The teachers that read other programs' files: what they say, what they convert, what identifies
// them, and distillation from one that predicts eps alone.
#include <ATen/ATen.h>
#include <torch/csrc/jit/api/module.h>

#include <catch2/catch.hpp>

#include "dkdm/files.hpp"
#include "fixtures/golden_file.hpp"
#include "fixtures/teachers.hpp"
#include "plugins/teachers/as_eps.hpp"

using namespace dkdm;
using Catch::Contains;
using fixtures::CountingHost;
using fixtures::ScratchFolder;
using fixtures::teacher;

namespace {

constexpr ImageSpec kSpec{3, 8, 8};

// Returns its input, with a second half or not.
class Echo final : public Denoiser {
 public:
  explicit Echo(bool with_variance) : with_variance_(with_variance) {}
  at::Tensor time;
  at::Tensor forward(const at::Tensor& x_t, const at::Tensor& t) override {
    time = t;
    const at::Tensor y = 0.5 * x_t + 0.1;
    return with_variance_ ? at::cat({y, 0.2 * x_t}, 1) : y;
  }

 private:
  bool with_variance_;
};

DiffusionConfig linear(std::int64_t steps, double first, double last) {
  return {.schedule = "linear", .steps = steps, .beta_start = first, .beta_end = last};
}

// A TorchScript module of one weight whose forward is `body`.
void write_module(const std::filesystem::path& file, const std::string& body) {
  torch::jit::Module module("__torch__.network");
  module.register_parameter("scale", at::full({1}, 0.5), /*is_buffer=*/false);
  module.define("def forward(self, x: Tensor, t: Tensor):\n" + body);
  module.save(file.string());
}

const char* const kHalf = "    return self.scale * x + 0.001 * t.float().view(-1, 1, 1, 1)\n";

std::map<std::string, Value> scripted(const std::filesystem::path& file) {
  return {{"path", file.string()}, {"image_size", std::int64_t{8}}};
}

}  // namespace

TEST_CASE("guided-diffusion: the log says what was inferred and what was assumed",
          "[unit][teachers]") {
  ScratchFolder scratch;
  const auto file = scratch.path / "tiny.safetensors";
  io::write_safetensors(file, fixtures::filled_weights(fixtures::small_unet(), kSpec));
  CountingHost host;
  const auto model =
      teacher(
          "guided-diffusion",
          {{"path", file.string()}, {"image_size", std::int64_t{8}}, {"steps", std::int64_t{100}}},
          host)
          ->load();
  CHECK_THAT(
      host.said,
      Contains("guided-diffusion: tiny.safetensors: guided-diffusion UNet") &&
          Contains("levels of 32, 64 channels, 1 residual block each, attention at 1/2") &&
          Contains("assuming those of guided-diffusion's defaults: 4 heads, legacy attention "
                   "order, linear schedule, time not rescaled") &&
          Contains("by parameters: 8 pixels, 100 steps"));
  CHECK(model.diffusion == DiffusionConfig{"linear", 100, ""});
  CHECK_FALSE(model.network->is_training());
}

TEST_CASE("guided-diffusion: `network` refuses a file of another one, and changes no key",
          "[unit][teachers]") {
  ScratchFolder scratch;
  const auto other = scratch.path / "other.safetensors", own = scratch.path / "own.safetensors";
  io::write_safetensors(other, fixtures::filled_weights(fixtures::small_unet(), kSpec));
  io::write_safetensors(
      own, fixtures::filled_weights({{"preset", std::string("14M-CNN")}}, SampleShape{3, 32, 32}));
  const auto named = [&](const std::filesystem::path& file, const std::string& network) {
    static CountingHost host;
    return teacher("guided-diffusion", {{"path", file.string()}, {"network", network}}, host);
  };
  CHECK(named(own, "14M-CNN")->load().shape == SampleShape{3, 32, 32});
  CHECK_THROWS_WITH(named(own, "24M-CNN")->load(),
                    Contains("network is 24M-CNN, but " + own.string() + " holds another one") &&
                        Contains("levels of 64, 128, 128, 128 channels"));
  CHECK_THROWS_AS(named(other, "14M-CNN")->load(), ConfigError);
  CHECK(named(own, "14M-CNN")->fingerprint() == named(own, "")->fingerprint());
  // As it was before there was `network`: the file, and the parameters of then at their defaults.
  std::string parts = io::sha256_file(own) + "\n";
  for (const char* line :
       {"attention_order = \"\"", "image_size = 0", "label = -1", "num_head_channels = 0",
        "num_heads = 0", "num_heads_upsample = 0", "predict_xstart = false",
        "rescale_timesteps = \"\"", "schedule = \"\"", "state = \"\"", "steps = 0",
        "variance = \"fixed_large\"", "weights = \"\""})
    parts += std::string(line) + "\n";
  CHECK(named(own, "")->fingerprint() == io::sha256(parts));
  const auto& info = fixtures::shipped_plugins().find("teacher", "guided-diffusion");
  const bool is_in_keys =
      Params(info.params, {{"network", std::string("57M-CNN")}}).determining() !=
      Params(info.params, {}).determining();
  CHECK_FALSE(is_in_keys);
}

TEST_CASE("guided-diffusion: a DiT's size is on its tensors, its heads go by its width",
          "[unit][teachers]") {
  ScratchFolder scratch;
  const std::map<std::string, Value> values{{"depth", std::int64_t{2}},
                                            {"hidden_size", std::int64_t{128}},
                                            {"num_heads", std::int64_t{2}}};
  const auto file = scratch.path / "dit.pt";
  auto weights = fixtures::filled_weights(values, kSpec, "dit");
  // A label table: its row 4 belongs to the time embedding of label 4.
  weights.emplace_back("y_embedder.embedding_table.weight", golden::u_fill(90, {11, 128}));
  io::write_torch(file, weights);
  CountingHost host;
  const auto model =
      teacher("guided-diffusion", {{"path", file.string()}, {"label", std::int64_t{4}}}, host)
          ->load();
  CHECK(model.shape == kSpec);
  CHECK_THAT(host.said, Contains("DiT: 3 channels in, 6 out") && Contains("2 heads") &&
                            Contains("label 4 of every image"));

  const auto expected = fixtures::student("dit", values, kSpec);
  fixtures::fill_parameters(*expected);
  const at::NoGradGuard no_grad;
  expected->named_parameters()["t_embedder.mlp.2.bias"] += golden::u_fill(90, {11, 128})[4];
  const at::Tensor x = fixtures::probe(kSpec), t = fixtures::probe_time();
  CHECK(at::equal(model.network->forward(x, t), expected->forward(x, t)));
}

TEST_CASE(
    "guided-diffusion: a file of a data parallel run, and of a network that counts 1000 steps",
    "[unit][teachers]") {
  ScratchFolder scratch;
  auto weights = fixtures::filled_weights(fixtures::small_unet(), kSpec);
  const auto load = [&](const char* name, const std::map<std::string, Value>& more) {
    io::write_torch(scratch.path / name, weights);
    std::map<std::string, Value> given{{"path", (scratch.path / name).string()},
                                       {"image_size", std::int64_t{8}}};
    given.insert(more.begin(), more.end());
    CountingHost host;
    return teacher("guided-diffusion", given, host)->load();
  };
  const at::NoGradGuard no_grad;
  const at::Tensor x = fixtures::probe(kSpec);
  const at::Tensor plain =
      load("plain.pt", {}).network->forward(x, at::tensor({1.5, 100.0}, at::kFloat));
  for (auto& [name, tensor] : weights) name = "module." + name;
  const auto rescaled =
      load("parallel.pt", {{"rescale_timesteps", "on"}, {"steps", std::int64_t{4000}}});
  CHECK(rescaled.diffusion.steps == 4000);
  CHECK(at::allclose(rescaled.network->forward(x, at::tensor({6, 400}, at::kLong)), plain));
}

TEST_CASE("teachers: the fingerprint follows bytes and parameters, not the place",
          "[unit][teachers]") {
  ScratchFolder scratch;
  io::write_text(scratch.path / "a", "weights");
  io::write_text(scratch.path / "copy", "weights");
  io::write_text(scratch.path / "b", "others");
  const auto name = GENERATE(as<std::string>{}, "guided-diffusion", "torchscript");
  const auto of = [&](const char* file, std::int64_t steps) {
    CountingHost host;
    return teacher(name, {{"path", (scratch.path / file).string()}, {"steps", steps}}, host)
        ->fingerprint();
  };
  CHECK(of("a", 100) == of("copy", 100));
  CHECK(of("a", 100) != of("b", 100));
  CHECK(of("a", 100) != of("a", 200));
}

TEST_CASE("as_eps: eps of the predicted image and of v, in closed form", "[unit][teachers]") {
  const DiffusionConfig config{"linear", 1000, ""};
  const GaussianDiffusion process(config);
  const auto& tables = process.tables();
  const at::Tensor x = golden::u_fill(1, {2, 3, 4, 4}), t = at::tensor({3, 998}, at::kLong);
  const at::Tensor y = 0.5 * x + 0.1;
  const auto table = [&](const std::vector<double>& values) {
    return at::tensor({values[3], values[998]}, at::kDouble).view({2, 1, 1, 1});
  };
  const at::Tensor a = table(tables.sqrt_alpha_bar), b = table(tables.sqrt_one_minus_alpha_bar);
  for (const bool variance : {false, true}) {
    const auto of = [&](teachers::Prediction prediction) {
      return teachers::as_eps(std::make_shared<Echo>(variance), prediction, config)->forward(x, t);
    };
    const at::Tensor sample = of(teachers::Prediction::sample), v = of(teachers::Prediction::v);
    CHECK(sample.size(1) == (variance ? 6 : 3));
    CHECK(at::allclose(sample.narrow(1, 0, 3).to(at::kDouble), (x - a * y) / b, 1e-5, 1e-5));
    CHECK(at::allclose(v.narrow(1, 0, 3).to(at::kDouble), a * y + b * x, 1e-5, 1e-6));
    if (variance) CHECK(at::equal(v.narrow(1, 3, 3), 0.2 * x));
  }
  const auto echo = std::make_shared<Echo>(false);
  CHECK(teachers::as_eps(echo, teachers::Prediction::eps, config) == echo);
  teachers::as_eps(echo, teachers::Prediction::eps, config, 0.25)->forward(x, t);
  CHECK(at::equal(echo->time, at::tensor({0.75, 249.5}, at::kFloat)));
}

TEST_CASE("torchscript: a graph's group normalisation gets contiguous memory", "[unit][teachers]") {
  // Of channels-last images LibTorch takes the variance as E[x^2] - E[x]^2: at a mean of a hundred
  // deviations that is off by thousandths, where contiguous ones are right to millionths.
  ScratchFolder scratch;
  const auto file = scratch.path / "module.pt";
  write_module(file, "    return torch.group_norm(x + 100 * (1 + 0 * self.scale), 1)\n");
  CountingHost host;
  const auto model = teacher("torchscript", scripted(file), host)->load();
  const at::NoGradGuard no_grad;
  const at::Tensor x = golden::u_fill(1, {2, 3, 8, 8}, 1.7);
  const at::Tensor out = model.network->forward(x.contiguous(at::MemoryFormat::ChannelsLast),
                                                at::tensor({1, 2}, at::kLong));
  const at::Tensor wanted = at::group_norm((x + 100).to(at::kDouble), 1);
  CHECK((out - wanted).abs().max().item<double>() < 1e-4);
}

TEST_CASE("torchscript: a module is loaded, tried and called", "[unit][teachers]") {
  ScratchFolder scratch;
  const auto file = scratch.path / "module.pt";
  write_module(file, kHalf);
  CountingHost host;
  auto given = scripted(file);
  given["schedule"] = "scaled_linear";
  given["beta_end"] = 0.012;
  const auto model = teacher("torchscript", given, host)->load();
  CHECK_THAT(host.said,
             Contains("torchscript: module.pt: returns 3 channels for images of 3x8x8") &&
                 Contains("scaled_linear schedule, 1000 steps, variance fixed_large"));
  CHECK(model.shape == kSpec);
  CHECK(model.diffusion.beta_end == 0.012);
  const at::Tensor x = fixtures::probe(kSpec), t = fixtures::probe_time();
  CHECK(at::allclose(model.network->forward(x, t),
                     0.5 * x + 0.001 * t.to(at::kFloat).view({2, 1, 1, 1})));
  REQUIRE(model.network->parameters().size() == 1);
  CHECK_FALSE(model.network->parameters().front().requires_grad());
}

TEST_CASE("distillation: a teacher of eps alone gives its fixed variance as the target",
          "[unit][teachers]") {
  const auto variance = GENERATE(as<std::string>{}, "fixed_large", "fixed_small");
  INFO(variance);
  fixtures::Bench bench(8, 4);
  bench.teacher.network = std::make_shared<Echo>(false);
  bench.teacher.diffusion.variance = bench.context.diffusion.variance = variance;
  ScratchFolder scratch;
  const auto method = bench.started("shuffled", {}, scratch.path);
  const TrainBatch batch = method->next(0);
  const auto& tables = method->diffusion().tables();
  const at::Tensor t = batch.t.contiguous();
  for (std::int64_t i = 0; i < t.size(0); ++i) {
    const auto step = static_cast<std::size_t>(t[i].item<std::int64_t>());
    const bool large = variance == "fixed_large" && step > 0;
    CHECK(batch.teacher.log_variance[i][0][0][0].item<double>() ==
          Approx(large ? tables.log_beta[step] : tables.posterior_log_variance_clipped[step])
              .epsilon(1e-5));
  }
  // Students of either kind learn from it: of eps alone without a bound, with a variance towards
  // the teacher's.
  const at::Tensor eps = batch.teacher.eps + 0.1;
  const LossTerms alone = method->loss(batch, eps);
  CHECK(alone.mse.mean().item<double>() == Approx(0.01).epsilon(1e-4));
  CHECK(alone.vb.abs().max().item<double>() == 0);
  const at::Tensor v = at::zeros_like(eps).requires_grad_();
  const LossTerms both = method->loss(batch, at::cat({eps, v}, 1));
  CHECK(both.vb.isfinite().all().item<bool>());
  both.loss.mean().backward();
  CHECK(v.grad().abs().max().item<double>() > 0);
}

TEST_CASE("distillation: a teacher of another process is refused with both", "[unit][teachers]") {
  fixtures::Bench bench(8, 4);
  ScratchFolder scratch;
  bench.teacher.diffusion.variance = "fixed_small";
  CHECK_THROWS_WITH(bench.started("shuffled", {}, scratch.path),
                    Contains("trained with cosine noise in 8 steps, variance fixed_small") &&
                        Contains("[diffusion] says cosine noise in 8 steps, variance fixed_large"));
  bench.teacher.diffusion = linear(8, 0.01, 0.2);
  CHECK_THROWS_WITH(bench.started("shuffled", {}, scratch.path),
                    Contains("linear noise in 8 steps, beta_start 0.01, beta_end 0.2"));
}

TEST_CASE("schedules: stated ends, and the squares of evenly spaced roots", "[unit][diffusion]") {
  const auto beta = [](const DiffusionConfig& config) {
    return GaussianDiffusion(config).tables().beta;
  };
  const auto plain = beta(linear(5, 0.1, 0.5));
  auto config = linear(5, 0.01, 0.25);
  config.schedule = "scaled_linear";
  const auto scaled = beta(config);
  for (std::size_t i = 0; i < 5; ++i) {
    const double root = 0.1 + 0.1 * static_cast<double>(i);
    CHECK(plain[i] == Approx(root));
    CHECK(scaled[i] == Approx(root * root));
  }
  CHECK(beta(linear(500, 0, 0)) == beta(linear(500, 0.0002, 0.04)));
  CHECK_THROWS_WITH(GaussianDiffusion(linear(10, 0.5, 0.1)), Contains("beta_start <= beta_end"));
  CHECK_THROWS_WITH(GaussianDiffusion(linear(10, 0.5, 1)), Contains("< 1"));
  CHECK_THROWS_WITH(GaussianDiffusion({.variance = "learned"}),
                    Contains("variance is \"learned\""));
}
