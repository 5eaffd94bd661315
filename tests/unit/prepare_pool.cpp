// Preparation of a batch set: the same set however it was made.
#include <catch2/catch.hpp>

#include <ATen/ATen.h>

#include <algorithm>

#include "dkdm/denoising.hpp"
#include "dkdm/diffusion.hpp"
#include "dkdm/io.hpp"
#include "dkdm/random.hpp"
#include "fixtures/analytic.hpp"

namespace fs = std::filesystem;
using dkdm::TensorMap;
using dkdm::fixtures::Bench;
using dkdm::fixtures::ScratchFolder;

namespace {

constexpr std::int64_t kSteps = 8, kRows = 22;

dkdm::GaussianDiffusion chain() { return dkdm::GaussianDiffusion({"cosine", kSteps, ""}); }

TensorMap prepared(Bench& bench, const fs::path& dir, std::int64_t teacher_batch) {
  dkdm::prepare_pool(bench.context, chain(), kRows, teacher_batch, dir);
  return dkdm::io::load_tensors(dir / "pool.safetensors");
}

std::size_t files_in(const fs::path& dir) {
  return std::distance(fs::directory_iterator(dir), fs::directory_iterator());
}

}  // namespace

TEST_CASE("prepare_pool: states leave out both ends and the set does not depend on the batch",
          "[unit][methods]") {
  Bench bench(kSteps, 4);
  ScratchFolder one, other;
  const TensorMap a = prepared(bench, one.path, 5), b = prepared(bench, other.path, 22);
  CHECK(a.at("state").min().item<std::int64_t>() >= 1);
  CHECK(a.at("state").max().item<std::int64_t>() <= kSteps - 1);
  CHECK(at::equal(a.at("state"), b.at("state")));
  CHECK(at::equal(a.at("x"), b.at("x")));
  CHECK(files_in(one.path) == 1);
}

TEST_CASE("prepare_pool: with all states, rows of state T' are their noise and cost nothing",
          "[unit][methods]") {
  Bench bench(kSteps, 4);
  ScratchFolder folder;
  dkdm::prepare_pool(bench.context, chain(), kRows, 5, folder.path,
                     {dkdm::TeacherClip::both, dkdm::FirstStates::all});
  const TensorMap pool = dkdm::io::load_tensors(folder.path / "pool.safetensors");
  const at::Tensor states =
      dkdm::random_states(bench.context.seed, kRows, kSteps, dkdm::FirstStates::all);
  CHECK(at::equal(pool.at("state"), states));
  const at::Tensor untouched = at::nonzero(states == kSteps).squeeze(1);
  REQUIRE(untouched.size(0) > 0);
  const at::Tensor noise =
      dkdm::Random(bench.context.seed, dkdm::Stream::pool_start).normal(0, untouched, {1, 4, 4});
  CHECK(at::equal(pool.at("x").index_select(0, untouched), noise));
  CHECK(bench.network->images == (kSteps - states).sum().item<std::int64_t>());
}

TEST_CASE("prepare_pool: each row takes T' minus its state teacher steps, and progress says so",
          "[unit][methods]") {
  Bench bench(kSteps, 4);
  ScratchFolder folder;
  const TensorMap pool = prepared(bench, folder.path, 5);
  const std::int64_t expected = (kSteps - pool.at("state")).sum().item<std::int64_t>();
  CHECK(bench.network->images == expected);
  CHECK(bench.host.done == expected);
  CHECK(bench.host.total == expected);
}

TEST_CASE("prepare_pool: a smaller set is the first rows of a larger one", "[unit][methods]") {
  ScratchFolder own, shared;
  Bench bench(kSteps, 2);
  const std::map<std::string, dkdm::Value> small{{"rho", 0.5}},
      large{{"rho", 0.5}, {"prepared_rho", 2.0}};
  const auto alone = bench.started("dynamic", small, own.path),
             first = bench.started("dynamic", large, shared.path);
  CHECK(dkdm::io::load_tensors(own.path / "pool.safetensors").at("x").size(0) == 8);
  CHECK(dkdm::io::load_tensors(shared.path / "pool.safetensors").at("x").size(0) == 32);
  for (std::int64_t step = 0; step < 2 * kSteps; ++step) {
    INFO(step);
    const auto a = alone->next(step), b = first->next(step);
    CHECK(at::equal(a.x_t, b.x_t));
    CHECK(at::equal(a.t, b.t));
  }
}

TEST_CASE("prepare_pool: a row is the teacher's own chain from its noise", "[unit][methods]") {
  Bench bench(kSteps, 4);
  ScratchFolder folder;
  const TensorMap pool = prepared(bench, folder.path, 5);
  const std::int64_t row = 7;
  const dkdm::GaussianDiffusion process = chain();
  at::Tensor x = dkdm::Random(1, dkdm::Stream::pool_start).normal(0, row, 1, {1, 4, 4});
  for (std::int64_t s = kSteps; s > pool.at("state")[row].item<std::int64_t>(); --s) {
    const at::Tensor t = at::full({1}, s - 1, at::kLong);
    const at::Tensor z = dkdm::Random(1, dkdm::Stream::pool_noise).normal(s, row, 1, {1, 4, 4});
    const auto p = process.p_mean_variance(bench.network->forward(x, t), x, t, true);
    x = process.ancestral_step(p, t, z);
  }
  CHECK(at::allclose(pool.at("x")[row], x[0], 1e-5, 1e-6));
}

TEST_CASE("prepare_pool: a killed preparation continues to the same set without doing work twice",
          "[unit][methods]") {
  Bench whole(kSteps, 4);
  ScratchFolder straight, broken;
  const TensorMap expected = prepared(whole, straight.path, 5);

  Bench killed(kSteps, 4);
  killed.host.allowed = whole.host.calls / 2;
  CHECK_THROWS_AS(prepared(killed, broken.path, 5), dkdm::Interrupted);
  CHECK_FALSE(fs::exists(broken.path / "pool.safetensors"));
  REQUIRE(files_in(broken.path) > 0);

  Bench resumed(kSteps, 4);
  const TensorMap pool = prepared(resumed, broken.path, 3);
  CHECK(at::equal(pool.at("x"), expected.at("x")));
  CHECK(at::equal(pool.at("state"), expected.at("state")));
  CHECK(resumed.network->images < whole.network->images);
  CHECK(resumed.host.done == whole.host.done);
  CHECK(files_in(broken.path) == 1);
}

TEST_CASE("prepare_pool: a finished set is not made again", "[unit][methods]") {
  Bench bench(kSteps, 4);
  ScratchFolder folder;
  prepared(bench, folder.path, 5);
  const std::int64_t images = bench.network->images;
  prepared(bench, folder.path, 5);
  CHECK(bench.network->images == images);
}

TEST_CASE("prepare_pool: a set of another size is refused by name", "[unit][methods]") {
  Bench bench(kSteps, 4);
  ScratchFolder folder;
  prepared(bench, folder.path, 5);
  auto method = bench.method("dynamic");  // wants round(0.4 * 8) * 4 = 12 rows, not 22
  CHECK_THROWS_WITH(method->start(bench.context, folder.path),
                    Catch::Contains("pool.safetensors") && Catch::Contains("12 rows"));
}

TEST_CASE("preparation_evaluations: the estimate is near what preparing takes", "[unit][methods]") {
  Bench bench(20, 32);
  ScratchFolder folder;
  auto method = bench.method("dynamic");
  const std::int64_t estimate = method->preparation_evaluations(bench.context.diffusion, 32);
  CHECK(estimate == 8 * 32 * 10);  // round(0.4 * 20) batches of 32, 20 / 2 steps a row
  method->prepare(bench.context, folder.path);
  // Sum of 256 uniform walks of 1 … 19 steps: standard deviation 16 * 5.5 = 88; 440 is five.
  CHECK(std::abs(bench.network->images - estimate) < 440);
}
