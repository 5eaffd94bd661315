// Networks in fewer bits: what is rounded and what is not, the loss scale of fp16, and that neither
// makes an accelerator wait.
#include <catch2/catch.hpp>

#include <ATen/ATen.h>
#include <ATen/record_function.h>

#include <cmath>
#include <limits>

#include "config/experiment.hpp"
#include "device/precision.hpp"
#include "dkdm/optimizer.hpp"
#include "fixtures/students.hpp"
#include "plugin/call.hpp"
#include "stages/determinants.hpp"

using namespace dkdm;
using Catch::Matchers::Contains;
using Precision = device::Precision;

namespace {

using Given = std::map<std::string, Value>;

constexpr SampleShape kImages{3, 16, 16};

// Types of the factors of a forward's matrix products and convolutions, in order.
thread_local std::vector<at::ScalarType> products;

std::unique_ptr<at::ObserverContext> note(const at::RecordFunction& function) {
  const std::string name = function.name();
  if (name == "aten::addmm" || name == "aten::mm" || name == "aten::bmm" ||
      name == "aten::convolution" || name == "aten::mkldnn_linear")
    products.push_back(function.inputs()[name == "aten::addmm" ? 1 : 0].toTensor().scalar_type());
  return nullptr;
}

at::Tensor predicted(Denoiser& network, Precision precision) {
  const at::Tensor x =
      golden::u_fill(7, kImages.batch(4), 1.5).contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor t = at::arange(4) * 150 + 7;
  const device::PrecisionScope scope(precision, at::kCPU);
  return plugin::predict(network, x, t);
}

double relative(const at::Tensor& difference, const at::Tensor& of) {
  return (difference.norm() / of.norm()).item<double>();
}

}  // namespace

TEST_CASE(
    "precision: a network in bf16 rounds its products, and neither its time embedding nor its "
    "output layer",
    "[unit][precision]") {
  for (const auto& [name, given] : fixtures::desk_students()) {
    INFO(name);
    const auto network = fixtures::student(name, given, kImages);
    fixtures::fill_parameters(*network);
    fixtures::near_start(*network);
    const at::Tensor fp32 = predicted(*network, Precision::fp32);

    products.clear();
    const at::RecordFunctionGuard enabled;
    const auto handle = at::addThreadLocalCallback(
        at::RecordFunctionCallback(note).needsInputs(true).scopes({at::RecordScope::FUNCTION}));
    at::Tensor bf16 = predicted(*network, Precision::bf16);
    at::removeCallback(handle);
    CHECK(bf16.scalar_type() == at::kFloat);
    REQUIRE(products.size() > 6);
    CHECK(products.back() == at::kFloat);  // the output layer
    // The time embedding has two linear layers (U-ViT's none by default), wherever in the forward.
    const auto exact = std::count(products.begin(), products.end(), at::kFloat);
    CHECK(exact >= (name == "uvit" ? 2 : 3));
    CHECK(std::count(products.begin(), products.end(), at::kBFloat16) > exact);

    // 2^-9 of each product's factors: none of it lost, and some of it there.
    const double error = relative(bf16 - fp32, fp32);
    CHECK(error < 0.03);
    CHECK(error > 1e-5);

    bf16.square().mean().backward();
    for (const auto& entry : network->named_parameters()) {
      INFO(entry.key());
      if (!entry.value().requires_grad()) continue;
      CHECK(entry.value().scalar_type() == at::kFloat);
      REQUIRE(entry.value().grad().defined());
      CHECK(entry.value().grad().scalar_type() == at::kFloat);
    }
    // What was rounded for the forward is not kept: the weights change.
    const at::NoGradGuard no_grad;
    for (auto& parameter : network->parameters()) parameter.mul_(0.5);
    CHECK(relative(predicted(*network, Precision::bf16) - predicted(*network, Precision::fp32),
                   predicted(*network, Precision::fp32)) < 0.03);
  }
}

TEST_CASE("precision: a scope ends with what was before it", "[unit][precision]") {
  const at::Tensor a = at::ones({4, 4});
  {
    const device::PrecisionScope outer(Precision::bf16, at::kCPU);
    CHECK(at::mm(a, a).scalar_type() == at::kBFloat16);
    {
      const device::PrecisionScope inner(Precision::fp32, at::kCPU);
      CHECK(at::mm(a, a).scalar_type() == at::kFloat);
      const device::PrecisionScope innermost(Precision::fp16, at::kCPU);
      CHECK(at::mm(a, a).scalar_type() == at::kHalf);
    }
    CHECK(at::mm(a, a).scalar_type() == at::kBFloat16);
  }
  CHECK(at::mm(a, a).scalar_type() == at::kFloat);
  CHECK_THROWS_WITH(device::check_precision(Precision::tf32, at::kCPU, "train.precision"),
                    "train.precision: tf32 is of CUDA devices, and networks compute on cpu; "
                    "expected fp32, bf16 or fp16");
  CHECK_NOTHROW(device::check_precision(Precision::tf32, at::Device(at::kCUDA, 1), ""));
}

TEST_CASE("precision: a network that returns fewer bits by itself is refused as before",
          "[unit][precision]") {
  struct Halved final : Denoiser {
    at::Tensor forward(const at::Tensor& x, const at::Tensor&) override { return x.to(at::kHalf); }
  };
  Halved network;
  CHECK_THROWS_WITH(predicted(network, Precision::fp32), Contains("expected float32"));
  CHECK_THROWS_WITH(predicted(network, Precision::bf16), Contains("expected float32"));
}

namespace {

struct Line : torch::nn::Module {
  Line() { weight = register_parameter("weight", at::arange(6, at::kFloat).reshape({2, 3}) / 10); }
  at::Tensor weight;
};

Params settings(const std::string& precision) {
  return Params(config::train_table(),
                {{"steps", std::int64_t{100}},
                 {"lr", 0.01},
                 {"ema", 0.9},
                 {"grad_clip", 0.5},
                 {"weight_decay", 0.1},
                 {"precision", precision}},
                "test");
}

// One step of the loss sum(c w^2), `overflows` = with an infinite gradient.
void learn(Line& line, train::Optimizer& optimizer, std::int64_t step, bool overflows) {
  const double c = overflows ? std::numeric_limits<double>::infinity() : 1.0;
  optimizer.scaled((line.weight * line.weight * c).sum()).backward();
  optimizer.step(step, optimizer.grad_norm());
}

}  // namespace

TEST_CASE(
    "precision: fp16 scales the loss, and an overflow skips step and EMA and halves the scale",
    "[unit][precision]") {
  Line scaled, plain;
  train::Optimizer a(scaled, settings("fp16")), b(plain, settings("fp32"));
  CHECK_FALSE(b.log2_loss_scale().defined());
  const auto log2_scale = [&] { return a.log2_loss_scale().item<double>(); };
  CHECK(log2_scale() == 20);

  // The gradient is that of the scaled loss, its norm that of the loss.
  a.scaled((scaled.weight * scaled.weight).sum()).backward();
  CHECK(at::allclose(scaled.weight.grad(), 2 * scaled.weight * std::exp2(20)));
  CHECK(a.grad_norm().item<double>() ==
        Approx(2 * scaled.weight.norm().item<double>()).epsilon(1e-6));
  scaled.weight.mutable_grad().reset();

  // Overflows at the beginning, in the middle and twice in a row; the other one never sees them.
  const std::vector<bool> overflows{true, false, false, true, true, false};
  double expected = 20;
  std::int64_t seen = 0;
  for (std::size_t i = 0; i < overflows.size(); ++i) {
    const auto before = a.state();
    std::map<std::string, at::Tensor> copies;
    for (const auto& [name, tensor] : before) copies[name] = tensor.clone();
    learn(scaled, a, static_cast<std::int64_t>(i), overflows[i]);
    expected += overflows[i] ? -1 : 0.001;
    CHECK(log2_scale() == Approx(expected).epsilon(1e-12));
    if (overflows[i]) {
      for (const char* name : {"param/weight", "ema/weight", "exp_avg/weight", "exp_avg_sq/weight"})
        CHECK(at::equal(a.state().at(name), copies.at(name)));
    } else {
      learn(plain, b, seen++, false);
      CHECK(at::allclose(scaled.weight, plain.weight, 1e-6, 1e-8));
      CHECK(at::allclose(a.weights(true).at("weight"), b.weights(true).at("weight"), 1e-6, 1e-8));
    }
  }

  // Scale and count of skipped steps are in the checkpoint.
  Line again;
  train::Optimizer c(again, settings("fp16"));
  c.restore(a.state(), "memory");
  learn(scaled, a, 6, false);
  learn(again, c, 6, false);
  CHECK(at::equal(scaled.weight, again.weight));
  CHECK(c.log2_loss_scale().item<double>() == log2_scale());
  CHECK_THROWS_WITH(train::Optimizer(again, settings("fp32")).restore(a.state(), "a file"),
                    Contains("loss_scale/log2"));
}

TEST_CASE("precision: only another one than fp32 enters keys", "[unit][precision]") {
  stages::SamplingSpec spec;
  spec.sampler.sampler = "ddim";
  const std::string fp32 = stages::describe(spec);
  CHECK_THAT(fp32, !Contains("precision"));
  spec.precision = "bf16";
  CHECK_THAT(stages::describe(spec), Contains("precision = bf16"));

  const auto teacher_part = [](const Given& given) {
    record::KeyParts parts;
    auto values = given;
    values["steps"] = std::int64_t{1};
    stages::add_teacher_precision(Params(config::train_table(), values), parts);
    return parts.empty() ? "" : parts[0].second;
  };
  CHECK(teacher_part({}) == "");
  CHECK(teacher_part({{"precision", std::string("bf16")}}) == "bf16");
  CHECK(teacher_part({{"precision", std::string("bf16")},
                      {"teacher_precision", std::string("fp32")}}) == "");
  CHECK(teacher_part({{"teacher_precision", std::string("fp16")}}) == "fp16");
  CHECK_THAT(stages::describe_training(Params(config::train_table(), {{"steps", std::int64_t{1}}})),
             !Contains("precision"));
}
