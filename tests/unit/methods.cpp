// Distillation methods on a closed-form teacher: which rows move when, and to what values.
#include <catch2/catch.hpp>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <set>

#include "dkdm/denoising.hpp"
#include "dkdm/diffusion.hpp"
#include "dkdm/distillation.hpp"
#include "dkdm/random.hpp"
#include "fixtures/analytic.hpp"

using dkdm::Random;
using dkdm::Stream;
using dkdm::TensorMap;
using dkdm::TrainBatch;
using dkdm::fixtures::Bench;
using dkdm::fixtures::ScratchFolder;
using dkdm::fixtures::values;
using Values = std::vector<std::int64_t>;

namespace {

// What a training step may depend on, as one tensor.
at::Tensor fingerprint(const TrainBatch& batch) {
  return at::cat({batch.x_t.flatten(), batch.t.to(at::kFloat), batch.teacher.mean.flatten(),
                  batch.teacher.log_variance.flatten(), batch.teacher.eps.flatten()});
}

bool equal(const TensorMap& a, const TensorMap& b) {
  if (a.size() != b.size()) return false;
  for (const auto& [name, tensor] : a) {
    if (b.count(name) == 0 || !at::equal(tensor, b.at(name))) return false;
  }
  return true;
}

// A state is views of what the next step changes.
TensorMap copied(TensorMap state) {
  for (auto& [name, tensor] : state) tensor = tensor.clone();
  return state;
}

const std::map<std::string, dkdm::Value> kStreaming{{"prepare", std::string("streaming")}};

}  // namespace

TEST_CASE("iterative: the batch walks t = T'-1 … 0 and starts again from other noise",
          "[unit][methods]") {
  Bench bench(6, 3);
  auto method = bench.started("iterative", {}, "");
  CHECK(method->needs().teacher);
  CHECK_FALSE(method->needs().preparation);
  std::vector<TrainBatch> batches;
  for (int step = 0; step < 8; ++step) batches.push_back(method->next(step));
  for (int step = 0; step < 8; ++step) {
    const std::int64_t t = step < 6 ? 5 - step : 11 - step;
    CHECK(values(batches[step].t) == Values(3, t));
  }
  CHECK(at::equal(batches[0].x_t, Random(1, Stream::pool_start).normal(0, 0, 3, {1, 4, 4})));
  CHECK(at::equal(batches[6].x_t, Random(1, Stream::pool_start).normal(1, 0, 3, {1, 4, 4})));
  CHECK(bench.network->images == 8 * 3);
}

TEST_CASE("iterative: each batch is the ancestral step of the one before", "[unit][methods]") {
  Bench bench(6, 3);
  auto method = bench.started("iterative", {}, "");
  const TrainBatch first = method->next(0), second = method->next(1);
  const dkdm::GaussianDiffusion& chain = method->diffusion();
  const auto p = chain.p_mean_variance(bench.network->forward(first.x_t, first.t), first.x_t,
                                       first.t, /*clip=*/true);
  CHECK(at::equal(first.teacher.eps, p.eps));
  CHECK(at::equal(first.teacher.mean, p.mean));
  const at::Tensor z = Random(1, Stream::pool_noise).normal(0, dkdm::kTrainingNoise, 3, {1, 4, 4});
  CHECK(at::equal(second.x_t, chain.ancestral_step(p, first.t, z)));
  CHECK_FALSE(first.teacher.eps.requires_grad());
}

TEST_CASE("distillation: a respaced chain calls the teacher at the kept original steps",
          "[unit][methods]") {
  Bench bench(1000, 2);
  auto method = bench.started("iterative", {{"respacing", std::string("4")}}, "");
  CHECK(method->diffusion().num_steps() == 4);
  const TrainBatch batch = method->next(0);
  CHECK(values(batch.t) == Values{3, 3});
  // ClosedForm adds 0.001 t to eps; the last of 4 kept steps of 1000 is 999.
  CHECK(at::allclose(batch.teacher.eps - 0.6 * batch.x_t, at::full({1}, 0.999), 0, 1e-5));
}

TEST_CASE("shuffled, upfront: rows are spread from the start and stay so", "[unit][methods]") {
  Bench bench(8, 64);
  ScratchFolder folder;
  auto method = bench.started("shuffled", {}, folder.path);
  CHECK(method->needs().preparation);
  const Values first = values(method->next(0).t);
  // States are uniform on 1 … 7, so t on 0 … 6; that 64 rows miss one of them has probability
  // 7 (6/7)^64 < 4e-4.
  CHECK(std::set<std::int64_t>(first.begin(), first.end()) ==
        std::set<std::int64_t>{0, 1, 2, 3, 4, 5, 6});
  const Values second = values(method->next(1).t);
  for (std::size_t row = 0; row < first.size(); ++row) {
    CHECK(second[row] == (first[row] == 0 ? 7 : first[row] - 1));
  }
}

TEST_CASE("shuffled, streaming: rows fall out of step within the first pass", "[unit][methods]") {
  Bench bench(8, 64);
  auto method = bench.started("shuffled", kStreaming, "");
  CHECK_FALSE(method->needs().preparation);
  const Values ends = values(dkdm::random_states(1, 64, 8));
  for (int step = 0; step < 20; ++step) {
    const Values t = values(method->next(step).t);
    for (std::size_t row = 0; row < t.size(); ++row) {
      const std::int64_t first_pass = 8 - ends[row];
      const std::int64_t expected = step < first_pass ? 7 - step : 7 - (step - first_pass) % 8;
      REQUIRE(t[row] == expected);
    }
  }
  CHECK(bench.network->images == 20 * 64);
  CHECK(method->training_evaluations(bench.context.diffusion, 64, 20) == 20 * 64);
}

TEST_CASE("dynamic: draws without replacement, denoises, writes back, restarts lazily",
          "[unit][methods]") {
  Bench bench(6, 4);
  ScratchFolder folder;
  auto method = bench.started("dynamic", {{"rho", 0.5}}, folder.path);
  TensorMap before = copied(method->state());
  REQUIRE(before.at("x").size(0) == 3 * 4);  // round(0.5 * 6) batches of 4
  std::int64_t restarts = 0;
  for (int step = 0; step < 40; ++step) {
    const at::Tensor drawn = Random(1, Stream::pool_choice).choice(step, 12, 4);
    const TrainBatch batch = method->next(step);
    const TensorMap after = copied(method->state());
    at::Tensor expected_x = before.at("x").clone(), expected_s = before.at("state").clone();
    for (std::int64_t i = 0; i < 4; ++i) {
      const auto row = drawn[i].item<std::int64_t>();
      const bool finished = before.at("state")[row].item<std::int64_t>() == 0;
      const std::int64_t s = finished ? 6 : before.at("state")[row].item<std::int64_t>();
      const std::int64_t count =
          before.at("restarts")[row].item<std::int64_t>() + (finished ? 1 : 0);
      restarts += finished;
      const at::Tensor x = finished
                               ? Random(1, Stream::pool_start).normal(count, row, 1, {1, 4, 4})[0]
                               : before.at("x")[row];
      REQUIRE(at::equal(batch.x_t[i], x));
      REQUIRE(batch.t[i].item<std::int64_t>() == s - 1);
      REQUIRE(after.at("restarts")[row].item<std::int64_t>() == count);
      expected_s[row] = s - 1;
    }
    const at::Tensor z =
        Random(1, Stream::pool_noise).normal(step, dkdm::kTrainingNoise, 4, {1, 4, 4});
    expected_x.index_copy_(0, drawn, method->diffusion().ancestral_step(batch.teacher, batch.t, z));
    // Undrawn rows, finished ones too, are untouched.
    REQUIRE(at::equal(after.at("x"), expected_x));
    REQUIRE(at::equal(after.at("state"), expected_s));
    before = after;
  }
  CHECK(restarts > 5);  // 160 visits of rows whose passes last 6 visits
}

TEST_CASE("dynamic: a row drawn in two steps moves two states", "[unit][methods]") {
  Bench bench(50, 4);
  ScratchFolder folder;
  auto method = bench.started("dynamic", {{"rho", 0.0}}, folder.path);  // one batch: all rows drawn
  const at::Tensor before = method->state().at("state").clone();
  method->next(0);
  method->next(1);
  REQUIRE(before.min().item<std::int64_t>() >= 2);
  CHECK(at::equal(method->state().at("state"), before - 2));
}

TEST_CASE("dynamic, streaming: denoised rows are added up to the set's size, then replace",
          "[unit][methods]") {
  Bench bench(8, 4);
  std::map<std::string, dkdm::Value> given = kStreaming;
  given["rho"] = 0.25;  // 2 batches: 8 rows
  auto method = bench.started("dynamic", given, "");
  CHECK(method->state().count("x") == 0);
  const TrainBatch batch = method->next(0);
  const TensorMap grown = copied(method->state());
  REQUIRE(grown.at("x").size(0) == 8);
  const at::Tensor drawn = Random(1, Stream::pool_choice).choice(0, 4, 4);
  CHECK(at::equal(grown.at("x").index_select(0, drawn), batch.x_t));
  CHECK(at::equal(grown.at("state").narrow(0, 0, 4), dkdm::random_states(1, 4, 8)));
  CHECK(at::equal(grown.at("state").narrow(0, 4, 4), batch.t));
  const std::int64_t walk = (8 - dkdm::random_states(1, 4, 8)).sum().item<std::int64_t>();
  CHECK(bench.network->images == walk + 4);
  // On average half of the chain's 8 steps for each of the first 4 rows.
  CHECK(method->training_evaluations(bench.context.diffusion, 4, 1) == 4 * 8 / 2 + 4);
  method->next(1);
  CHECK(method->state().at("x").size(0) == 8);
  CHECK_FALSE(at::equal(method->state().at("x"), grown.at("x")));
}

TEST_CASE("distillation: continuing from a saved state gives the same batches bit for bit",
          "[unit][methods]") {
  const std::string name = GENERATE("iterative", "shuffled", "dynamic");
  const bool streaming = GENERATE(false, true);
  const int saved_at = GENERATE(0, 1, 7);
  if (name == "iterative" && streaming) return;
  const auto given = streaming ? kStreaming : std::map<std::string, dkdm::Value>{};
  INFO(name << (streaming ? " streaming" : "") << ", saved after step " << saved_at);
  ScratchFolder folder;
  Bench bench(9, 4), other(9, 4);
  auto method = bench.started(name, given, folder.path);
  for (int step = 0; step < saved_at; ++step) method->next(step);
  const TensorMap saved = copied(method->state());
  auto resumed = other.started(name, given, folder.path);
  resumed->restore(saved);
  for (int step = saved_at; step < saved_at + 15; ++step) {
    REQUIRE(at::equal(fingerprint(method->next(step)), fingerprint(resumed->next(step))));
  }
  CHECK(equal(method->state(), resumed->state()));
}

TEST_CASE("distillation: batches do not depend on the number of threads", "[unit][methods]") {
  auto run = [](int threads) {
    at::set_num_threads(threads);
    ScratchFolder folder;
    Bench bench(7, 32);
    auto method = bench.started("dynamic", {}, folder.path);
    std::vector<at::Tensor> all;
    for (int step = 0; step < 6; ++step) all.push_back(fingerprint(method->next(step)));
    return at::cat(all);
  };
  CHECK(at::equal(run(1), run(2)));
}

TEST_CASE("distillation: the method's loss is the distillation loss with its switches",
          "[unit][methods]") {
  const bool clip = GENERATE(false, true);
  const double lambda = GENERATE(1.0, 0.025);
  ScratchFolder folder;
  Bench bench(10, 8);
  auto method = bench.started("dynamic", {{"student_clip", clip}, {"lambda", lambda}}, folder.path);
  const TrainBatch batch = method->next(0);
  const at::Tensor output = at::cat({0.5 * batch.x_t, -0.2 * batch.x_t}, 1);
  const dkdm::LossTerms terms = method->loss(batch, output);
  CHECK(at::equal(terms.loss, dkdm::distillation_loss(method->diffusion(), output, batch.x_t,
                                                      batch.t, batch.teacher, clip, lambda)
                                  .loss));
  // Eq. 20: the teacher's eps is 0.6 x_t + 0.001 t, the student's 0.5 x_t.
  const at::Tensor difference =
      0.1 * batch.x_t + 0.001 * batch.t.to(at::kFloat).view({-1, 1, 1, 1});
  CHECK(at::allclose(terms.mse, difference.square().mean({1, 2, 3}), 1e-4, 1e-7));
  // Eq. 19
  CHECK(at::allclose(terms.loss, terms.mse + lambda * terms.vb, 1e-5, 1e-7));
}

TEST_CASE("distillation: teacher_clip says where the teacher's predicted image is clipped",
          "[unit][methods]") {
  const std::string clip = GENERATE("both", "chain", "none");
  Bench bench(6, 3);
  auto method = bench.started("iterative", {{"teacher_clip", clip}}, "");
  const TrainBatch first = method->next(0), second = method->next(1);
  const dkdm::GaussianDiffusion& chain = method->diffusion();
  const at::Tensor output = bench.network->forward(first.x_t, first.t);
  const auto clipped = chain.p_mean_variance(output, first.x_t, first.t, true);
  const auto whole = chain.p_mean_variance(output, first.x_t, first.t, false);
  REQUIRE_FALSE(at::allclose(clipped.mean, whole.mean, 1e-2, 1e-2));
  const at::Tensor z = Random(1, Stream::pool_noise).normal(0, dkdm::kTrainingNoise, 3, {1, 4, 4});
  const auto& walked = clip == "none" ? whole : clipped;
  const auto& taught = clip == "both" ? clipped : whole;
  CHECK(at::equal(second.x_t, chain.ancestral_step(walked, first.t, z)));
  CHECK(at::equal(first.x_prev, second.x_t));
  CHECK(at::equal(first.teacher.mean, taught.mean));
  CHECK(at::equal(first.teacher.eps, whole.eps));
}

TEST_CASE("distillation: teacher_clip reaches the preparation", "[unit][methods]") {
  ScratchFolder folder, other;
  Bench bench(6, 3), unclipped(6, 3);
  const at::Tensor x = bench.started("dynamic", {}, folder.path)->state().at("x");
  const at::Tensor y =
      unclipped.started("dynamic", {{"teacher_clip", std::string("none")}}, other.path)
          ->state()
          .at("x");
  CHECK_FALSE(at::allclose(x, y, 1e-2, 1e-2));
}

TEST_CASE("distillation: t0_term = decoder compares with the teacher's image at t = 0",
          "[unit][methods]") {
  Bench bench(4, 3);
  auto kl = bench.started("iterative", {}, "");
  auto decoder = bench.started("iterative", {{"t0_term", std::string("decoder")}}, "");
  for (int step = 0; step < 4; ++step) {
    const TrainBatch batch = kl->next(step);
    const TrainBatch same = decoder->next(step);
    const at::Tensor output = at::cat({0.5 * batch.x_t, -0.2 * batch.x_t}, 1);
    const at::Tensor vb = decoder->loss(same, output).vb;
    CHECK(at::equal(vb, kl->loss(batch, output).vb) == (step < 3));  // t = 3 … 0
    CHECK(at::equal(vb, dkdm::distillation_loss(kl->diffusion(), output, batch.x_t, batch.t,
                                                batch.teacher, false, 1, batch.x_prev)
                            .vb));
  }
}

TEST_CASE("distillation: first_states = all lets rows start as pure noise", "[unit][methods]") {
  ScratchFolder folder;
  Bench bench(4, 64);
  const std::map<std::string, dkdm::Value> all{{"first_states", std::string("all")}};
  const std::string name = GENERATE("shuffled", "dynamic");
  std::map<std::string, dkdm::Value> given = all;
  if (name == "dynamic") given["rho"] = 0.0;  // one batch
  const TensorMap set = bench.started(name, given, folder.path)->state();
  const Values states = values(set.at("state"));
  // Uniform on 1 … 4; that 64 rows miss one of them has probability 4 (3/4)^64 < 1e-7.
  CHECK(std::set<std::int64_t>(states.begin(), states.end()) == std::set<std::int64_t>{1, 2, 3, 4});
  const at::Tensor noise = Random(1, Stream::pool_start).normal(0, 0, 64, {1, 4, 4});
  for (std::size_t row = 0; row < states.size(); ++row) {
    const auto r = static_cast<std::int64_t>(row);
    CHECK(at::equal(set.at("x")[r], noise[r]) == (states[row] == 4));
  }

  // Streaming draws its first states from the same range.
  given["prepare"] = std::string("streaming");
  Bench later(4, 64);
  auto streaming = later.started(name, given, "");
  streaming->next(0);
  const at::Tensor expected = dkdm::random_states(1, 64, 4, dkdm::FirstStates::all);
  CHECK(expected.max().item<std::int64_t>() == 4);
  if (name == "dynamic") {
    const std::int64_t walk = (4 - expected).sum().item<std::int64_t>();
    CHECK(later.network->images == walk + 64);
  }
}

TEST_CASE("distillation: teacher and student read v each in its own range", "[unit][methods]") {
  Bench bench(6, 3);
  bench.context.diffusion.variance_range = "unit";  // the teacher's is centred
  auto method = bench.started("iterative", {}, "");
  const TrainBatch batch = method->next(0);
  const at::Tensor taught = bench.network->forward(batch.x_t, batch.t);
  const dkdm::GaussianDiffusion centred({"cosine", 6, ""}),
      unit({.steps = 6, .variance_range = "unit"});
  CHECK(at::equal(batch.teacher.log_variance,
                  centred.p_mean_variance(taught, batch.x_t, batch.t, true).log_variance));
  // A student that says v = (v_T + 1) / 2 means the same distribution, but for the clipping.
  const at::Tensor output = at::cat({taught.narrow(1, 0, 1), (taught.narrow(1, 1, 1) + 1) / 2}, 1);
  CHECK(at::allclose(unit.p_mean_variance(output, batch.x_t, batch.t, true).log_variance,
                     batch.teacher.log_variance, 1e-5, 1e-6));
  CHECK(at::equal(
      method->loss(batch, output).vb,
      dkdm::distillation_loss(unit, output, batch.x_t, batch.t, batch.teacher, false, 1).vb));
}

TEST_CASE("dynamic: restarting finished rows at once instead of when drawn gives the same batches",
          "[unit][methods]") {
  ScratchFolder folder;
  Bench bench(6, 4), eager(6, 4);
  auto lazy = bench.started("dynamic", {{"rho", 0.5}}, folder.path);
  auto immediate = eager.started("dynamic", {{"rho", 0.5}}, folder.path);
  std::int64_t restarts = 0;
  for (int step = 0; step < 40; ++step) {
    REQUIRE(at::equal(fingerprint(lazy->next(step)), fingerprint(immediate->next(step))));
    TensorMap state = copied(immediate->state());
    const at::Tensor finished = at::nonzero(state.at("state") == 0).squeeze(1);
    for (const std::int64_t row : values(finished)) {
      const std::int64_t count = state.at("restarts")[row].item<std::int64_t>() + 1;
      state.at("x")[row] = Random(1, Stream::pool_start).normal(count, row, 1, {1, 4, 4})[0];
      state.at("state")[row] = 6;
      state.at("restarts")[row] = count;
      ++restarts;
    }
    immediate->restore(state);
  }
  CHECK(restarts > 5);
}

TEST_CASE("distillation: a teacher of another process is an error that names both",
          "[unit][methods]") {
  Bench bench(10, 4);
  bench.teacher.diffusion.schedule = "linear";
  CHECK_THROWS_WITH(bench.started("iterative", {}, ""),
                    Catch::Contains("linear") && Catch::Contains("cosine"));
}
