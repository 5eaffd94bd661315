// Blocks that students share: time embedding, attention, dropout.
#include <ATen/ATen.h>

#include <array>

#include <catch2/catch.hpp>

#include "dkdm/nn.hpp"
#include "golden/u_fill.hpp"

using namespace dkdm;
using Catch::Matchers::Contains;

namespace {

struct TwoDropouts : torch::nn::Module {
  TwoDropouts()
      : a(register_module("a", std::make_shared<nn::Dropout>(0.25))),
        b(register_module("b", std::make_shared<nn::Dropout>(0.25))) {}
  std::shared_ptr<nn::Dropout> a, b;
};

}  // namespace

TEST_CASE("time embedding: cosines, then sines, as the reference", "[unit][nn]") {
  // Authors' timestep_embedding, width 64, PyTorch 1.13: t = 1 and 999.
  const at::Tensor e = nn::timestep_embedding(at::tensor({1, 999}, at::kLong), 64);
  REQUIRE(e.sizes() == at::IntArrayRef({2, 64}));
  CHECK(e.scalar_type() == at::kFloat);
  const auto value = [&](int row, int column) { return e[row][column].item<double>(); };
  CHECK(value(0, 0) == Approx(0.54030234).margin(1e-6));
  CHECK(value(0, 1) == Approx(0.73176098).margin(1e-6));
  CHECK(value(0, 2) == Approx(0.84600914).margin(1e-6));
  CHECK(value(0, 32) == Approx(0.84147096).margin(1e-6));
  CHECK(value(0, 34) == Approx(0.53316844).margin(1e-6));
  // Phases near 1000 carry f32 rounding of 3e-5.
  CHECK(value(1, 0) == Approx(0.99964982).margin(1e-4));
  CHECK(value(1, 1) == Approx(0.12523112).margin(1e-4));
  CHECK(value(1, 2) == Approx(-0.84400272).margin(1e-4));
  CHECK(value(1, 31) == Approx(0.99113947).margin(1e-4));
  CHECK(value(1, 32) == Approx(-0.02646075).margin(1e-4));
  CHECK(value(1, 63) == Approx(0.13282503).margin(1e-4));
  CHECK(at::equal(e, nn::timestep_embedding(at::tensor({1.0F, 999.0F}), 64)));
  CHECK_THROWS_WITH(nn::timestep_embedding(at::tensor({1}), 7), Contains("7"));
}

TEST_CASE("self-attention: softmax(q k / sqrt(head width)) v, head by head", "[unit][nn]") {
  constexpr std::int64_t kRows = 2, kTokens = 5, kWidth = 12, kHeads = 3, kHead = kWidth / kHeads;
  const at::Tensor qkv = golden::u_fill(1, {kRows, kTokens, 3 * kWidth}, 2.0);
  const at::Tensor out = nn::self_attention(qkv, kHeads);
  REQUIRE(out.sizes() == at::IntArrayRef({kRows, kTokens, kWidth}));
  const at::Tensor in = qkv.to(at::kDouble);
  for (std::int64_t head = 0; head < kHeads; ++head) {
    const auto part = [&](std::int64_t which) {
      return in.narrow(2, which * kWidth + head * kHead, kHead);
    };
    const at::Tensor weights = at::softmax(part(0).matmul(part(1).transpose(1, 2)) / 2.0, 2);
    CHECK(at::allclose(out.narrow(2, head * kHead, kHead).to(at::kDouble), weights.matmul(part(2)),
                       1e-5, 1e-6));
  }
  CHECK_THROWS_WITH(nn::self_attention(qkv, 5), Contains("5 heads"));
}

TEST_CASE("dropout: the identity in evaluation, without a seed and at p = 0", "[unit][nn]") {
  const at::Tensor x = golden::u_fill(2, {4, 8, 3, 3});
  nn::Dropout dropout(0.5), none(0.0);
  CHECK(at::equal(dropout.forward(x), x));
  dropout.seed(1, 0, 0, 0);
  none.seed(1, 0, 0, 0);
  CHECK_FALSE(at::equal(dropout.forward(x), x));
  CHECK(at::equal(none.forward(x), x));
  dropout.eval();
  CHECK(at::equal(dropout.forward(x), x));
  CHECK_THROWS_WITH(nn::Dropout(1.0), Contains("1.0"));
}

TEST_CASE("dropout: drops a share p and scales what it keeps", "[unit][nn]") {
  nn::Dropout dropout(0.25);
  dropout.seed(3, 7, 0, 0);
  const at::Tensor y = dropout.forward(at::ones({64, 32, 8, 8}));
  // 131072 draws: the share's standard deviation is 0.0012; five of them.
  CHECK((y == 0).to(at::kDouble).mean().item<double>() == Approx(0.25).margin(0.006));
  CHECK(at::allclose(y.masked_select(y != 0), at::full({1}, 4.0 / 3.0)));
  CHECK(y.scalar_type() == at::kFloat);
}

TEST_CASE("dropout: masks differ between seeds, steps, layers and samples, and repeat",
          "[unit][nn]") {
  const at::Tensor x = at::ones({8, 6, 5, 5});
  const auto mask = [&](std::uint64_t seed, std::int64_t step, std::int64_t first) {
    TwoDropouts net;
    nn::seed_layers(net, seed, step, first);
    return std::pair(net.a->forward(x), net.b->forward(x));
  };
  const auto [a, b] = mask(1, 5, 0);
  CHECK(at::equal(a, mask(1, 5, 0).first));
  CHECK_FALSE(at::equal(a, b));
  CHECK_FALSE(at::equal(a, mask(2, 5, 0).first));
  CHECK_FALSE(at::equal(a, mask(1, 6, 0).first));
  CHECK_FALSE(at::equal(a[0], a[1]));
  CHECK(at::equal(a.narrow(0, 3, 5), mask(1, 5, 3).first.narrow(0, 0, 5)));
}

TEST_CASE(
    "random layer: numbers differ between seeds, steps, layers, calls and samples, and repeat",
    "[unit][nn]") {
  struct Net : torch::nn::Module {
    std::shared_ptr<nn::RandomLayer> a = register_module("a", std::make_shared<nn::RandomLayer>());
    std::shared_ptr<nn::RandomLayer> b = register_module("b", std::make_shared<nn::RandomLayer>());
  };
  const at::Tensor like = at::zeros({6, 2, 5, 5});
  // Two draws of the first layer, one of the second.
  const auto drawn = [&](std::uint64_t seed, std::int64_t step, std::int64_t first) {
    Net net;
    nn::seed_layers(net, seed, step, first);
    return std::array{net.a->normal(like), net.a->normal(like), net.b->normal(like)};
  };
  const auto first = drawn(1, 5, 0), again = drawn(1, 5, 0), later = drawn(1, 5, 2);
  for (std::size_t i = 0; i < first.size(); ++i) {
    CHECK(first[i].sizes() == like.sizes());
    CHECK(at::equal(first[i], again[i]));
    // The rows of a batch that begins with sample 2.
    CHECK(at::equal(first[i].narrow(0, 2, 4), later[i].narrow(0, 0, 4)));
    CHECK_FALSE(at::equal(first[i], drawn(2, 5, 0)[i]));
    CHECK_FALSE(at::equal(first[i], drawn(1, 6, 0)[i]));
    CHECK_FALSE(at::equal(first[i], first[(i + 1) % first.size()]));
    CHECK_FALSE(at::equal(first[i][0], first[i][1]));
  }
  Net net;
  CHECK_FALSE(net.a->draws());
  CHECK_THROWS_WITH(net.a->normal(like), Contains("draws()"));
  nn::seed_layers(net, 1, 0);
  CHECK(net.a->draws());
  const at::Tensor share = net.a->uniform(at::zeros({1000})), mask = net.b->mask(like, 0.5);
  CHECK(share.ge(0).all().item<bool>());
  CHECK(share.lt(1).all().item<bool>());
  // A mean of 1,000 uniform numbers has a standard deviation of 0.0091: five of them.
  CHECK(share.mean().item<double>() == Approx(0.5).margin(0.046));
  CHECK(((mask == 0) | (mask == 2)).all().item<bool>());
  net.eval();
  CHECK_FALSE(net.a->draws());
}

TEST_CASE("zero_parameters: zeroes all below", "[unit][nn]") {
  torch::nn::Sequential net(torch::nn::Linear(3, 4), torch::nn::Conv2d(2, 3, 3));
  nn::zero_parameters(*net);
  REQUIRE(net->parameters().size() == 4);
  for (const auto& parameter : net->parameters()) {
    CHECK(at::count_nonzero(parameter).item<int>() == 0);
  }
}
