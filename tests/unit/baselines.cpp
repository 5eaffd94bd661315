// The baselines' minibatches, on images whose pixels say which image they are.
#include <catch2/catch.hpp>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <set>

#include "dkdm/diffusion.hpp"
#include "dkdm/training_data.hpp"
#include "fixtures/analytic.hpp"

namespace fixtures = dkdm::fixtures;
using dkdm::TrainBatch;

namespace {

constexpr dkdm::ImageSpec kSpec{1, 4, 4};

// Which image each example of the batch is; exact, since pixels are x / 127.5 - 1 of its number.
std::vector<std::int64_t> numbers(const TrainBatch& batch) {
  return fixtures::values(((batch.x0.flatten(1).select(1, 1) + 1) * 127.5).round());
}

}  // namespace

TEST_CASE("data-based: an epoch shows every image once and the next has another order",
          "[unit][methods]") {
  fixtures::Bench bench(10, 4);
  const fixtures::NumberedImages images(12, 1, kSpec);
  bench.context.dataset = &images;
  auto method = bench.started("data-based", {}, "");
  CHECK(method->needs().dataset);
  CHECK_FALSE(method->needs().synthetic);
  std::vector<std::vector<std::int64_t>> epochs(2);
  for (int step = 0; step < 6; ++step) {
    for (std::int64_t number : numbers(method->next(step))) epochs[step / 3].push_back(number);
  }
  CHECK(epochs[0] != epochs[1]);
  for (auto& epoch : epochs) {
    std::sort(epoch.begin(), epoch.end());
    CHECK(epoch == std::vector<std::int64_t>{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12});
  }
}

TEST_CASE("data-based: the last partial batch of an epoch is dropped", "[unit][methods]") {
  fixtures::Bench bench(10, 4);
  const fixtures::NumberedImages images(11, 1, kSpec);
  bench.context.dataset = &images;
  auto method = bench.started("data-based", {}, "");
  std::set<std::int64_t> seen;
  for (int step = 0; step < 2; ++step) {
    for (std::int64_t number : numbers(method->next(step))) seen.insert(number);
  }
  CHECK(seen.size() == 8);
}

TEST_CASE("data-based: the last partial batch of an epoch is a batch where it is kept",
          "[unit][methods]") {
  fixtures::Bench bench(10, 4);
  const fixtures::NumberedImages images(11, 1, kSpec);
  bench.context.dataset = &images;
  bench.context.keep_last_batch = true;
  auto method = bench.started("data-based", {}, "");
  for (int epoch = 0; epoch < 2; ++epoch) {
    std::vector<std::int64_t> sizes, seen;
    for (int step = 0; step < 3; ++step) {
      const TrainBatch batch = method->next(3 * epoch + step);
      sizes.push_back(batch.x_t.size(0));
      CHECK(batch.t.sizes() == at::IntArrayRef{sizes.back()});
      CHECK(batch.eps.sizes() == batch.x0.sizes());
      for (std::int64_t number : numbers(batch)) seen.push_back(number);
    }
    CHECK(sizes == std::vector<std::int64_t>{4, 4, 3});
    std::sort(seen.begin(), seen.end());
    CHECK(seen == std::vector<std::int64_t>{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11});
  }
}

TEST_CASE("data-based: keeping the last batch changes nothing where epochs are whole",
          "[unit][methods]") {
  fixtures::Bench bench(10, 4);
  const fixtures::NumberedImages images(12, 1, kSpec);
  bench.context.dataset = &images;
  auto dropped = bench.started("data-based", {}, "");
  bench.context.keep_last_batch = true;
  auto kept = bench.started("data-based", {}, "");
  for (int step = 0; step < 5; ++step)
    CHECK(at::equal(dropped->next(step).x_t, kept->next(step).x_t));
}

TEST_CASE("data-based: a batch is a function of seed and step, whatever was drawn and the threads",
          "[unit][methods]") {
  const fixtures::NumberedImages images(40, 1, kSpec);
  auto batch_at = [&](std::uint64_t seed, std::int64_t from, std::int64_t step, int threads) {
    at::set_num_threads(threads);
    fixtures::Bench bench(10, 8, seed);
    bench.context.dataset = &images;
    auto method = bench.started("data-based", {}, "");
    TrainBatch batch;
    for (std::int64_t k = from; k <= step; ++k) batch = method->next(k);
    return batch;
  };
  const TrainBatch all = batch_at(1, 0, 7, 2), resumed = batch_at(1, 7, 7, 1);
  CHECK(at::equal(all.x_t, resumed.x_t));
  CHECK(at::equal(all.t, resumed.t));
  CHECK(at::equal(all.eps, resumed.eps));
  CHECK_FALSE(at::equal(all.x_t, batch_at(2, 7, 7, 2).x_t));
  CHECK(all.x_t.is_contiguous(at::MemoryFormat::ChannelsLast));
}

TEST_CASE("data-based: x_t is the noised image, the loss the hybrid loss", "[unit][methods]") {
  fixtures::Bench bench(10, 8);
  const fixtures::NumberedImages images(40, 1, kSpec);
  bench.context.dataset = &images;
  auto method = bench.started("data-based", {{"vb_weight", 0.5}}, "");
  const TrainBatch batch = method->next(3);
  const dkdm::GaussianDiffusion& process = method->diffusion();
  CHECK(at::equal(batch.x_t, process.q_sample(batch.x0, batch.t, batch.eps)));
  CHECK(batch.t.min().item<std::int64_t>() >= 0);
  CHECK(batch.t.max().item<std::int64_t>() < 10);
  const at::Tensor output = bench.network->forward(batch.x_t, batch.t);
  CHECK(at::equal(
      method->loss(batch, output).loss,
      dkdm::hybrid_loss(process, output, batch.x0, batch.x_t, batch.t, batch.eps, 0.5).loss));
}

TEST_CASE("data-based: t0_term = kl takes the KL at t = 0 as well", "[unit][methods]") {
  fixtures::Bench bench(3, 16);
  const fixtures::NumberedImages images(40, 1, kSpec);
  bench.context.dataset = &images;
  const auto bound = [&](const std::string& term) {
    auto method = bench.started("data-based", {{"t0_term", term}}, "");
    const TrainBatch batch = method->next(0);
    return std::pair(batch, method->loss(batch, bench.network->forward(batch.x_t, batch.t)).vb);
  };
  const auto [batch, decoder] = bound("decoder");
  const auto [same, kl] = bound("kl");
  REQUIRE(at::equal(batch.x_t, same.x_t));
  CHECK(at::equal(kl == decoder, batch.t != 0));
  CHECK(batch.t.min().item<std::int64_t>() == 0);
}

TEST_CASE("data-based: about half of the images are mirrored, none when flip is off",
          "[unit][methods]") {
  fixtures::Bench bench(10, 200);
  const fixtures::NumberedImages images(200, 20, kSpec);
  bench.context.dataset = &images;
  auto mirrored = [&](bool flip) {
    const TrainBatch batch = bench.started("data-based", {{"flip", flip}}, "")->next(0);
    // The dark left column (-1) is on the right of a mirrored image.
    return batch.x0.select(3, 3).eq(-1).all(2).sum().item<std::int64_t>();
  };
  CHECK(mirrored(false) == 0);
  // Binomial(200, 1/2): mean 100, standard deviation 7.07; 36 is five of them.
  CHECK(std::abs(mirrored(true) - 100) < 36);
}

TEST_CASE("data-free: only synthetic images are asked for and seen", "[unit][methods]") {
  fixtures::Bench bench(10, 4);
  const fixtures::NumberedImages synthetic(8, 100, kSpec);
  bench.context.synthetic = &synthetic;
  auto method = bench.started("data-free", {}, "");
  CHECK(method->needs().synthetic);
  CHECK_FALSE(method->needs().dataset);
  for (std::int64_t number : numbers(method->next(0))) CHECK((number >= 100 && number < 108));
}

TEST_CASE("data-limited: real images replace a fraction of the synthetic ones", "[unit][methods]") {
  fixtures::Bench bench(10, 10);
  const fixtures::NumberedImages real(30, 1, kSpec), synthetic(20, 100, kSpec);
  bench.context.dataset = &real;
  bench.context.synthetic = &synthetic;
  auto method = bench.started("data-limited", {{"fraction", 0.2}, {"flip", false}}, "");
  CHECK(method->needs().dataset);
  CHECK(method->needs().synthetic);
  std::set<std::int64_t> seen_real, seen_synthetic;
  for (int step = 0; step < 2; ++step) {  // one epoch of 20 images
    for (std::int64_t number : numbers(method->next(step))) {
      (number < 100 ? seen_real : seen_synthetic).insert(number);
    }
  }
  // numpy 2.4.6, seed 0: choice(30, 4, replace=False) -> 2 28 13 10; images are numbered from 1.
  CHECK(seen_real == std::set<std::int64_t>{3, 11, 14, 29});
  CHECK(seen_synthetic.size() == 16);
}

TEST_CASE("data-limited: Python's generator chooses the images where it is asked for",
          "[unit][methods]") {
  fixtures::Bench bench(10, 20);
  const fixtures::NumberedImages real(30, 1, kSpec), synthetic(20, 100, kSpec);
  bench.context.dataset = &real;
  bench.context.synthetic = &synthetic;
  auto method =
      bench.started("data-limited", {{"fraction", 0.2}, {"draw", std::string("python")}}, "");
  std::set<std::int64_t> seen_real;
  for (std::int64_t number : numbers(method->next(0)))
    if (number < 100) seen_real.insert(number);
  // CPython 3.11.7: random.Random(0).sample(range(30), 4) -> 27 12 24 28; images are numbered
  // from 1.
  CHECK(seen_real == std::set<std::int64_t>{13, 25, 28, 29});
}

TEST_CASE("baselines: a batch larger than the dataset is an error that names both",
          "[unit][methods]") {
  fixtures::Bench bench(10, 16);
  const fixtures::NumberedImages images(12, 1, kSpec);
  bench.context.dataset = &images;
  CHECK_THROWS_WITH(bench.started("data-based", {}, ""),
                    Catch::Contains("16") && Catch::Contains("12"));
}
