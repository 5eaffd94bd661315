// Twenty training steps of each method against the authors' own loops: tests/golden/methods.json,
// made by make_methods.py from the same initial weights and the same draws. The real methods and
// the real trainer run; so does the preparation of the batch set.
#include <ATen/ATen.h>

#include <array>
#include <catch2/catch.hpp>

#include "config/experiment.hpp"
#include "dkdm/io.hpp"
#include "fixtures/analytic.hpp"
#include "fixtures/students.hpp"
#include "golden/packed.hpp"
#include "train/trainer.hpp"

namespace {

using namespace dkdm;
using Json = nlohmann::json;

const Json& reference() {
  static const Json file = golden::read_json("methods.json");
  return file;
}

std::int64_t setting(const char* name) { return reference().at("settings").at(name); }

ImageSpec spec() { return ImageSpec::square(3, setting("size")); }

std::shared_ptr<Denoiser> network(std::vector<std::int64_t> mult) {
  auto made = fixtures::student("adm-unet",
                                {{"model_channels", std::int64_t{64}},
                                 {"num_res_blocks", std::int64_t{1}},
                                 {"channel_mult", std::move(mult)},
                                 {"attention_resolutions", std::vector<std::int64_t>{4}},
                                 {"num_head_channels", std::int64_t{32}},
                                 {"dropout", 0.0}},
                                spec());
  fixtures::fill_parameters(*made);
  fixtures::near_start(*made);
  return made;
}

// Pixel j of image i is (7919 j + 104729 i + 12345) mod 1000003 mod 256.
class Images final : public Dataset {
 public:
  ImageSpec spec() const override { return ::spec(); }
  std::int64_t size() const override { return setting("images"); }
  std::string fingerprint() const override { return "residues"; }
  at::Tensor images(const at::Tensor& index) const override {
    const std::int64_t side = setting("size");
    const at::Tensor j = at::arange(3 * side * side, at::kLong).view({1, 3, side, side});
    const at::Tensor i = index.view({-1, 1, 1, 1});
    return (7919 * j + 104729 * i + 12345).remainder(1000003).remainder(256).to(at::kByte);
  }
};

// Passes everything on and keeps which steps of the chain each batch had.
class Observed final : public Method {
 public:
  explicit Observed(std::shared_ptr<Method> method) : method_(std::move(method)) {}
  std::vector<std::vector<std::int64_t>> times;

  Needs needs() const override { return method_->needs(); }
  void start(const MethodContext&, const std::filesystem::path&) override {}  // already was
  const GaussianDiffusion& diffusion() const override { return method_->diffusion(); }
  TrainBatch next(std::int64_t step) override {
    TrainBatch batch = method_->next(step);
    times.push_back(fixtures::values(batch.t));
    return batch;
  }
  LossTerms loss(const TrainBatch& batch, const at::Tensor& output) const override {
    return method_->loss(batch, output);
  }

 private:
  std::shared_ptr<Method> method_;
};

// What a run came to, in the terms of the golden file.
struct Outcome {
  std::vector<std::vector<std::int64_t>> times;
  std::map<std::string, std::vector<double>> curves;
  TensorMap start, raw, ema, prepared, set;
};

Outcome trained(const std::string& name, std::map<std::string, Value> given) {
  fixtures::Bench bench(1000, setting("batch"), static_cast<std::uint64_t>(setting("seed")));
  const Images images;
  bench.teacher.network = network({1, 2});
  bench.teacher.shape = bench.context.shape = spec();
  bench.context.dataset = &images;
  const std::string chain = reference().at("settings").at("chain");
  if (name == "data-based") {
    bench.context.diffusion.respacing = chain;
  } else {
    given["respacing"] = chain;
  }
  const fixtures::ScratchFolder pool, folder;
  const auto method = bench.started(name, given, pool.path);

  Outcome outcome;
  if (method->needs().preparation) {
    outcome.prepared = io::load_tensors(pool.path / "pool.safetensors");
  }
  const auto student = network({1, 1});
  for (const auto& entry : student->named_parameters()) {
    outcome.start[entry.key()] = entry.value().detach().clone();
  }
  Observed observed(method);
  const Params settings(config::train_table(),
                        {{"batch", setting("batch")},
                         {"steps", setting("steps")},
                         {"lr", reference().at("settings").at("lr").get<double>()},
                         {"ema", reference().at("settings").at("ema").get<double>()},
                         {"log_every", std::int64_t{1}}},
                        "train");
  train::train(*student, observed, bench.host, settings, /*seed=*/0, folder.path,
               [&](const std::vector<record::CurvePoint>& points) {
                 for (const auto& point : points) outcome.curves[point.name].push_back(point.value);
               });
  outcome.times = observed.times;
  outcome.raw = io::load_tensors(folder.path / "raw.safetensors");
  outcome.ema = io::load_tensors(folder.path / "ema.safetensors");
  outcome.set = method->state();
  return outcome;
}

// The products of each parameter's change with u(9000 + i), u(19000 + i), as the golden file has
// them after the norm.
std::vector<std::array<double, 2>> changes(const TensorMap& now, const TensorMap& start) {
  std::vector<std::array<double, 2>> products;
  std::int64_t i = 0;
  for (const std::string name : reference().at("settings").at("parameters")) {
    const at::Tensor change = now.at(name).to(at::kDouble) - start.at(name).to(at::kDouble);
    const auto with = [&](std::int64_t base) {
      return (change * golden::u_fill(base + i, change.sizes())).sum().item<double>();
    };
    products.push_back({with(9000), with(19000)});
    ++i;
  }
  return products;
}

// ‖ours - theirs‖ / ‖theirs‖ over all parameters, from products with vectors of uniform entries on
// [-1, 1], whose square is a third of the squared norm on average. A row of `theirs`: the norm of a
// change, and its two products.
double distance(const std::vector<std::array<double, 2>>& ours, const Json& theirs) {
  REQUIRE(ours.size() == theirs.size());
  double off = 0, all = 0;
  for (std::size_t i = 0; i < ours.size(); ++i) {
    for (const std::size_t which : {0, 1}) {
      off += 1.5 * std::pow(ours[i][which] - theirs[i][1 + which].get<double>(), 2);
    }
    all += std::pow(theirs[i][0].get<double>(), 2);
  }
  return std::sqrt(off / all);
}

// Largest relative difference.
double distance(const std::vector<double>& ours, const Json& theirs) {
  REQUIRE(ours.size() == theirs.size());
  double worst = 0;
  for (std::size_t i = 0; i < ours.size(); ++i) {
    const double expected = theirs[i];
    worst = std::max(worst, std::abs(ours[i] - expected) / std::abs(expected));
  }
  return worst;
}

// float32 here may be off the reference's float64 run by what the reference's own float32 run is,
// which is rounding alone, and a little more: other sums, another order.
void check_rounding(const std::string& what, double ours, const Json& expected, double limit) {
  const double theirs = expected.at("rounding").at(what);
  INFO(what << ": relative distance to the reference in float64 " << ours << "; the reference's "
            << "own float32 run is off by " << theirs);
  CHECK(ours < limit);
  CHECK(ours < 6 * theirs + 1e-6);
}

void check_training(const Outcome& ours, const Json& expected) {
  CHECK(ours.times == expected.at("t").get<std::vector<std::vector<std::int64_t>>>());
  for (const char* term : {"mse", "vb"}) {
    check_rounding(term, distance(ours.curves.at(term), expected.at(term)), expected, 1e-3);
  }
  const std::map<std::string, TensorMap> learned{{"parameters", ours.raw}, {"ema", ours.ema}};
  for (const auto& [what, weights] : learned) {
    check_rounding(what, distance(changes(weights, ours.start), expected.at(what)), expected, 2e-2);
  }
}

// The batch set `which`; ours may be its first rows.
void check_set(const TensorMap& ours, const Json& expected, const char* which) {
  const std::int64_t rows = ours.at("x").size(0);
  auto states = expected.at(which).at("state").get<std::vector<std::int64_t>>();
  states.resize(static_cast<std::size_t>(rows));
  CHECK(fixtures::values(ours.at("state")) == states);
  const at::Tensor x = golden::unpacked(expected.at(which).at("x")).narrow(0, 0, rows);
  check_rounding(which, golden::row_error(ours.at("x"), x), expected, 1e-5);
}

}  // namespace

TEST_CASE("methods: iterative distillation follows the authors' loop", "[conformance][train]") {
  check_training(trained("iterative", {}), reference().at("iterative"));
}

TEST_CASE("methods: shuffled distillation follows the authors' loop", "[conformance][train]") {
  const Outcome ours = trained("shuffled", {});
  const Json& expected = reference().at("shuffled");
  check_set(ours.prepared, reference().at("dynamic"), "prepared");
  check_training(ours, expected);
  check_set(ours.set, expected, "set");
}

TEST_CASE("methods: dynamic distillation follows the authors' loop", "[conformance][train]") {
  const Outcome ours =
      trained("dynamic", {{"rho", reference().at("settings").at("rho").get<double>()}});
  const Json& expected = reference().at("dynamic");
  check_set(ours.prepared, expected, "prepared");
  check_training(ours, expected);
  check_set(ours.set, expected, "set");
  const auto restarts = ours.set.at("restarts").sum().item<std::int64_t>();
  CHECK(restarts == expected.at("set").at("restarts").get<std::int64_t>());
  CHECK(restarts > 4);
}

TEST_CASE("methods: data-based training follows the authors' loop", "[conformance][train]") {
  check_training(trained("data-based", {}), reference().at("data-based"));
}
