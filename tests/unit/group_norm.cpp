// dkdm::group_norm against float64, wherever a group's mean lies; and that it is a full operator.
#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/nn/modules/normalization.h>

#include <array>
#include <catch2/catch.hpp>
#include <functional>
#include <optional>

#include "dkdm/nn.hpp"
#include "golden/u_fill.hpp"

using namespace dkdm;
using Catch::Matchers::Contains;

namespace {

constexpr double kEps = 1e-5;

struct Result {
  at::Tensor y, dx, dweight, dbias;
};

// The definition, in float64, of float32 inputs.
Result reference(const at::Tensor& x, std::int64_t groups, const at::Tensor& weight,
                 const at::Tensor& bias, const at::Tensor& dy) {
  const auto leaf = [](const at::Tensor& t) { return t.detach().to(at::kDouble).requires_grad_(); };
  const at::Tensor a = leaf(x), w = leaf(weight), b = leaf(bias);
  const at::Tensor rows = a.reshape({x.size(0), groups, -1});
  const at::Tensor centred = rows - rows.mean(2, true);
  std::vector<std::int64_t> shape(static_cast<std::size_t>(x.dim()), 1);
  shape[1] = x.size(1);
  const at::Tensor y =
      (centred / (centred.square().mean(2, true) + kEps).sqrt()).view(x.sizes()) * w.view(shape) +
      b.view(shape);
  y.backward(dy.to(at::kDouble));
  return {y.detach(), a.grad(), w.grad(), b.grad()};
}

Result own(const at::Tensor& x, std::int64_t groups, const at::Tensor& weight,
           const at::Tensor& bias, const at::Tensor& dy) {
  const auto leaf = [](const at::Tensor& t) { return t.detach().clone().requires_grad_(); };
  const at::Tensor a = leaf(x), w = leaf(weight), b = leaf(bias);
  const at::Tensor y = nn::group_norm(a, groups, w, b, kEps);
  y.backward(dy);
  return {y.detach(), a.grad(), w.grad(), b.grad()};
}

// Largest error over the largest value.
double error(const at::Tensor& value, const at::Tensor& expected) {
  return ((value.to(at::kDouble) - expected).abs().max() / expected.abs().max()).item<double>();
}

// Values of spread one around `mean`, most of them near it and some four spreads away.
at::Tensor around(double mean, at::IntArrayRef sizes) {
  at::Tensor x = golden::u_fill(3, sizes, 1.7);
  x = x + 28 * x.pow(9) / std::pow(1.7, 9);
  return (x.to(at::kDouble) / x.to(at::kDouble).std() + mean).to(at::kFloat);
}

void check_all(const Result& ours, const Result& expected) {
  // Three float32 roundings, 6e-8 each, and sums in float64; ten times that is below 1e-5.
  CHECK(error(ours.y, expected.y) < 2e-6);
  CHECK(error(ours.dx, expected.dx) < 2e-6);
  CHECK(error(ours.dweight, expected.dweight) < 2e-6);
  CHECK(error(ours.dbias, expected.dbias) < 2e-6);
}

}  // namespace

TEST_CASE("group norm: exact wherever the mean lies, in both memory formats", "[unit][nn]") {
  const double mean = GENERATE(0.0, 1.0, 10.0, -100.0, 1000.0, 1e4);
  const auto format = GENERATE(at::MemoryFormat::Contiguous, at::MemoryFormat::ChannelsLast);
  // One image of many pixels is cut into pieces for the threads; odd sizes leave remainders.
  const auto sizes =
      GENERATE(std::vector<std::int64_t>{5, 32, 8, 8}, std::vector<std::int64_t>{2, 24, 7, 9},
               std::vector<std::int64_t>{1, 64, 65, 33});
  const std::int64_t groups = 8;
  INFO("mean " << mean << ", " << format << ", sizes " << c10::str(sizes));
  const at::Tensor x = around(mean, sizes).contiguous(format);
  const at::Tensor dy = golden::u_fill(4, sizes).contiguous(format);
  const at::Tensor weight = golden::u_fill(5, {sizes[1]}) + 1, bias = golden::u_fill(6, {sizes[1]});
  const Result ours = own(x, groups, weight, bias, dy);
  check_all(ours, reference(x, groups, weight, bias, dy));
  CHECK(ours.y.is_contiguous(format));
  CHECK(ours.dx.is_contiguous(format));
}

TEST_CASE("group norm: the portable form is exact as well", "[unit][nn]") {
  const double mean = GENERATE(0.0, 10.0, 1000.0);
  const at::Tensor x = around(mean, {2, 16, 8, 8}), dy = golden::u_fill(4, x.sizes());
  const at::Tensor weight = golden::u_fill(5, {16}) + 1, bias = golden::u_fill(6, {16});
  const Result expected = reference(x, 4, weight, bias, dy);
  // What a device without a kernel of ours runs.
  const auto portable = c10::DispatchKeySet(c10::DispatchKey::CUDA);  // called on the CPU's memory
  using None = std::optional<at::Tensor>;
  auto& dispatcher = c10::Dispatcher::singleton();
  const auto find = [&](const char* name) { return dispatcher.findSchemaOrThrow(name, ""); };
  const auto [y, m, rest, r] =
      find("dkdm::group_norm_with_moments")
          .typed<std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>(
              const at::Tensor&, std::int64_t, const None&, const None&, double)>()
          .redispatch(portable, x, 4, weight, bias, kEps);
  const auto [dx, dweight, dbias] =
      find("dkdm::group_norm_backward")
          .typed<std::tuple<at::Tensor, at::Tensor, at::Tensor>(
              const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
              const at::Tensor&, const None&, std::int64_t, std::array<bool, 3>)>()
          .redispatch(portable, dy, x, m, rest, r, weight, 4, {true, true, true});
  check_all({y, dx, dweight, dbias}, expected);
}

TEST_CASE("group norm: float64, bfloat16, other ranks, no weight", "[unit][nn]") {
  const at::Tensor x = around(3, {3, 8, 5, 4});
  const at::Tensor one = at::ones({8}), zero = at::zeros({8});
  const at::Tensor expected = reference(x, 2, one, zero, at::ones_like(x)).y;
  CHECK(error(nn::group_norm(x.to(at::kDouble), 2), expected) < 1e-13);
  CHECK(error(nn::group_norm(x, 2), expected) < 2e-6);
  // Everything between a bfloat16 and a bfloat16 is float32: one rounding of the result, 2^-9 of
  // it.
  const at::Tensor rounded = x.to(at::kBFloat16), low = nn::group_norm(rounded, 2);
  CHECK(low.scalar_type() == at::kBFloat16);
  const at::Tensor of_rounded = reference(rounded.to(at::kFloat), 2, one, zero, at::ones_like(x)).y;
  CHECK(error(low, of_rounded) < 0x1p-8);
  CHECK(at::equal(nn::group_norm(x.flatten(2), 2).view(x.sizes()), nn::group_norm(x, 2)));
  CHECK(nn::group_norm(at::ones({0, 8, 2, 2}), 2).sizes() == at::IntArrayRef({0, 8, 2, 2}));
  CHECK(nn::group_norm(at::full({1, 8, 2, 2}, 123.4F), 2).abs().max().item<float>() < 1e-3F);
}

TEST_CASE("group norm: the same bits for any number of threads and rows", "[unit][nn]") {
  const auto last = at::MemoryFormat::ChannelsLast;
  const at::Tensor x = around(2, {3, 32, 48, 48}).contiguous(last);
  const at::Tensor weight = golden::u_fill(5, {32}), bias = golden::u_fill(6, {32});
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const at::Tensor alone = nn::group_norm(x, 8, weight, bias);
  at::set_num_threads(4);  // more than rows: each image is cut
  const at::Tensor together = nn::group_norm(x, 8, weight, bias);
  const at::Tensor row = nn::group_norm(x.narrow(0, 1, 1).contiguous(last), 8, weight, bias);
  at::set_num_threads(threads);
  CHECK(at::equal(alone, together));
  CHECK(at::equal(row, together.narrow(0, 1, 1)));
}

TEST_CASE("group norm: a meta tensor has the sizes, type and memory format of the result",
          "[unit][nn]") {
  const at::Tensor x =
      at::empty({2, 8, 4, 4}, at::TensorOptions().device(at::kMeta).dtype(at::kHalf).memory_format(
                                  at::MemoryFormat::ChannelsLast));
  const at::Tensor y = nn::group_norm(x, 4);
  CHECK(y.is_meta());
  CHECK(y.scalar_type() == at::kHalf);
  CHECK(y.sizes() == x.sizes());
  CHECK(y.is_contiguous(at::MemoryFormat::ChannelsLast));
}

TEST_CASE("group norm: its gradient has a gradient", "[unit][nn]") {
  const auto of = [](const std::function<at::Tensor(const at::Tensor&)>& norm) {
    const at::Tensor x = golden::u_fill(3, {2, 4, 3, 3}).to(at::kDouble).requires_grad_();
    const at::Tensor first = torch::autograd::grad({norm(x).pow(3).sum()}, {x}, {}, true, true)[0];
    return torch::autograd::grad({first.square().sum()}, {x})[0];
  };
  const at::Tensor ours = of([](const at::Tensor& x) { return nn::group_norm(x, 2); });
  const at::Tensor theirs = of([](const at::Tensor& x) { return at::group_norm(x, 2); });
  CHECK(error(ours, theirs) < 1e-10);
}

TEST_CASE("group norm: the module is torch's in names, order and values; inference runs it",
          "[unit][nn]") {
  nn::GroupNorm ours(4, 16, 1e-6);
  torch::nn::GroupNorm theirs(torch::nn::GroupNormOptions(4, 16).eps(1e-6));
  CHECK(ours.named_parameters().keys() == theirs->named_parameters().keys());
  const c10::InferenceMode inference;
  const at::Tensor x = around(0, {2, 16, 6, 6});
  CHECK(error(ours.forward(x), theirs->forward(x).to(at::kDouble)) < 2e-6);
  ours.to(at::kDouble);
  CHECK(ours.forward(x.to(at::kDouble)).scalar_type() == at::kDouble);
}

TEST_CASE(
    "layer norm: LibTorch's is right to the rounding of its input, as dit, uvit and mlp-mixer need",
    "[unit][nn]") {
  const double mean = GENERATE(0.0, 10.0, 100.0, 1000.0);
  const at::Tensor x = around(mean, {2, 16, 384});
  const at::Tensor rows = x.to(at::kDouble);
  const at::Tensor centred = rows - rows.mean(2, true);
  const at::Tensor expected = centred / (centred.square().mean(2, true) + kEps).sqrt();
  const double rounding = mean * 0x1p-24;  // of x, in spreads
  CHECK((at::layer_norm(x, {384}, {}, {}, kEps) - expected).abs().max().item<double>() <
        1e-5 * expected.abs().max().item<double>() + 4 * rounding);
}

TEST_CASE("group norm: what it cannot take is named", "[unit][nn]") {
  CHECK_THROWS_WITH(nn::group_norm(at::ones({1, 6, 2, 2}), 4),
                    Contains("6 channels") && Contains("4 groups"));
  CHECK_THROWS_WITH(nn::group_norm(at::ones({1, 6, 2, 2}), 3, at::ones({5})),
                    Contains("weight is [5]"));
  CHECK_THROWS_WITH(nn::group_norm(at::ones({6}), 3), Contains("[6]"));
  CHECK_THROWS_WITH(nn::GroupNorm(4, 6), Contains("6 channels"));
}
