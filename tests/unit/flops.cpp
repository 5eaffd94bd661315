// Operations counted by watching a forward: against figures worked out by hand, and published ones.
#include "model/flops.hpp"

#include <ATen/ATen.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>

#include <catch2/catch.hpp>

#include "dkdm/nn.hpp"
#include "fixtures/students.hpp"

using namespace dkdm;
using model::count_flops;

TEST_CASE("flops: a convolution is a product of each output with its window", "[unit][flops]") {
  const at::Tensor x = at::ones({2, 6, 8, 8});
  const auto of = [&](const torch::nn::Conv2dOptions& options) {
    torch::nn::Conv2d layer(options);
    return count_flops([&] { layer->forward(x); });
  };
  // 2 images, 10 channels, 8 x 8 places, windows of 6 x 3 x 3.
  CHECK(of(torch::nn::Conv2dOptions(6, 10, 3).padding(1)) == 2 * 2 * 10 * 64 * 54);
  CHECK(of(torch::nn::Conv2dOptions(6, 10, 3).padding(1).stride(2)) == 2 * 2 * 10 * 16 * 54);
  CHECK(of(torch::nn::Conv2dOptions(6, 9, 3).groups(3)) == 2 * 2 * 9 * 36 * 18);
  CHECK(of(torch::nn::Conv2dOptions(6, 6, 3).groups(6)) == 2 * 2 * 6 * 36 * 9);
}

TEST_CASE("flops: a transposed convolution spreads each input over its window", "[unit][flops]") {
  const at::Tensor x = at::ones({2, 6, 8, 8});
  torch::nn::ConvTranspose2d layer(torch::nn::ConvTranspose2dOptions(6, 4, 2).stride(2).groups(2));
  CHECK(count_flops([&] { layer->forward(x); }) == 2 * 2 * 6 * 64 * (2 * 4));
}

TEST_CASE("flops: matrix products, called by any name", "[unit][flops]") {
  const at::Tensor a = at::ones({3, 4}), b = at::ones({4, 5}), batch = at::ones({7, 3, 4});
  CHECK(count_flops([&] { at::mm(a, b); }) == 2 * 3 * 4 * 5);
  CHECK(count_flops([&] { at::matmul(batch, b); }) == 2 * 7 * 3 * 4 * 5);
  CHECK(count_flops([&] { at::linear(batch, b.t(), at::ones({5})); }) == 2 * 7 * 3 * 4 * 5);
  CHECK(count_flops([&] { at::addmm(at::ones({5}), a, b); }) == 2 * 3 * 4 * 5);
  CHECK(count_flops([&] { at::bmm(batch, at::ones({7, 4, 5})); }) == 2 * 7 * 3 * 4 * 5);
  CHECK(count_flops([&] { at::baddbmm(at::ones({7, 3, 5}), batch, at::ones({7, 4, 5})); }) ==
        2 * 7 * 3 * 4 * 5);
  CHECK(count_flops([&] { at::addbmm(at::ones({3, 5}), batch, at::ones({7, 4, 5})); }) ==
        2 * 7 * 3 * 4 * 5);
  CHECK(count_flops([&] { at::mv(a, at::ones({4})); }) == 2 * 3 * 4);
  CHECK(count_flops([&] { at::dot(at::ones({9}), at::ones({9})); }) == 2 * 9);
  CHECK(count_flops([&] { at::einsum("bij,jk->bik", {batch, b}); }) == 2 * 7 * 3 * 4 * 5);
}

TEST_CASE("flops: attention is two products of tokens with tokens", "[unit][flops]") {
  // 2 images, 3 heads, 10 questions to 7 tokens; keys of width 4, values of width 5.
  const at::Tensor q = at::ones({2, 3, 10, 4}), k = at::ones({2, 3, 7, 4}),
                   v = at::ones({2, 3, 7, 5});
  CHECK(count_flops([&] { at::scaled_dot_product_attention(q, k, v); }) ==
        2 * 2 * 3 * 10 * 7 * (4 + 5));
  CHECK(count_flops([&] { nn::self_attention(at::ones({2, 16, 3 * 12}), 3); }) ==
        2 * 2 * 2 * 16 * 16 * 12);
}

TEST_CASE("flops: what multiplies no matrices counts nothing, and counting ends with the call",
          "[unit][flops]") {
  const at::Tensor x = at::ones({4, 4});
  CHECK(count_flops([&] { at::softmax(x * x + x, 1).sum(); }) == 0);
  CHECK_THROWS(count_flops([&] { at::mm(x, at::ones({3, 3})); }));
  at::mm(x, x);
  CHECK(count_flops([&] { at::mm(x, x); }) == 2 * 64);
  std::int64_t inner = 0;
  const auto outer = count_flops([&] {
    at::mm(x, x);
    inner = count_flops([&] { at::mm(x, x); });
  });
  CHECK(inner == 2 * 64);
  CHECK(outer == 2 * inner);
}

TEST_CASE("flops: a whole network, by hand", "[unit][flops]") {
  // 16 tokens of width 48, two blocks, MLP of 192, patches of 4 x 4 of 3 channels, 6 channels out.
  auto network = fixtures::student("dit",
                                   {{"depth", std::int64_t{2}},
                                    {"hidden_size", std::int64_t{48}},
                                    {"num_heads", std::int64_t{3}},
                                    {"patch_size", std::int64_t{4}}},
                                   {3, 16, 16});
  const std::int64_t block =
      48 * 6 * 48 + 16 * 48 * 3 * 48 + 2 * 16 * 16 * 48 + 16 * 48 * 48 + 2 * 16 * 48 * 192;
  const std::int64_t expected =
      16 * 48 * 48 + 256 * 48 + 48 * 48 + 2 * block + 48 * 2 * 48 + 16 * 48 * 16 * 6;
  network->train();
  CHECK(model::forward_flops(*network, {3, 16, 16}) == 2 * expected);
  CHECK(network->is_training());
}

TEST_CASE("flops: DiT-S/2 as published", "[unit][flops]") {
  // Peebles & Xie, Table 4: 6.06 Gflops on 32 x 32 x 4 latents, counting a multiply-add as one.
  const auto network = fixtures::student("dit", {{"preset", std::string("DiT-S")}}, {4, 32, 32});
  CHECK(double(model::forward_flops(*network, {4, 32, 32})) == Approx(2 * 6.06e9).epsilon(2e-3));
}
