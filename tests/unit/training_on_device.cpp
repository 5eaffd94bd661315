// The training loop on an accelerator: the CPU's bits, and the host hardly ever waits. What it must
// not do is planted in the last test.
#include <catch2/catch.hpp>

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "config/experiment.hpp"
#include "dkdm/device.hpp"
#include "dkdm/diffusion.hpp"
#include "dkdm/io.hpp"
#include "fake_device/fake_device.hpp"
#include "fixtures/analytic.hpp"
#include "fixtures/students.hpp"
#include "stages/method_inputs.hpp"
#include "train/trainer.hpp"

using namespace dkdm;
using Catch::Matchers::Contains;
using fake_device::Counters;
using Values = std::map<std::string, Value>;

namespace {

constexpr SampleShape kImages{3, 8, 8};
constexpr std::int64_t kBatch = 4, kSteps = 35, kFirst = 17, kLast = 33;  // counted: [17, 33)

// Counts what the device is asked for during sixteen steps in the middle.
class Watching final : public fixtures::HostOn {
 public:
  using HostOn::HostOn;
  void progress(const std::string& unit, std::int64_t done, std::int64_t) override {
    if (unit != "steps") return;
    if (done == kFirst) fake_device::reset_counters();
    if (done == kLast) counters = fake_device::counters();
  }
  Counters counters;
};

std::shared_ptr<Denoiser> network(std::uint64_t seed, at::Device device, double dropout = 0.1) {
  auto made = fixtures::student("adm-unet",
                                {{"model_channels", std::int64_t{32}},
                                 {"num_res_blocks", std::int64_t{1}},
                                 {"channel_mult", std::vector<std::int64_t>{1, 2}},
                                 {"attention_resolutions", std::vector<std::int64_t>{4}},
                                 {"num_heads", std::int64_t{2}},
                                 {"dropout", dropout}},
                                kImages, seed, {"cosine", 20, ""});
  made->to(device);
  return made;
}

struct Trained {
  TensorMap raw, ema;
  std::vector<record::CurvePoint> curves;
  Counters counters;
  std::string graphs;  // what came of them
};

// How a training computes on the device.
struct How {
  std::string precision = "fp32";
  bool on_host = false;  // the batch set
  bool graphs = false;
  double dropout = 0.1;
  std::shared_ptr<Denoiser> student{};  // instead of the usual one
};

using Change = std::function<std::shared_ptr<Method>(std::shared_ptr<Method>)>;

Trained trained(const std::string& name, const Values& given, at::Device device,
                const Change& change = {}, const How& how = {}) {
  Watching host(device);
  const fixtures::NumberedImages images(40, 1, {3, 8, 8}), synthetic(60, 100, {3, 8, 8});
  TrainedModel teacher{network(3, device), {"cosine", 20, ""}, kImages};
  teacher.network->eval();
  const auto student = how.student ? how.student : network(4, device, how.dropout);
  MethodContext context{host,    {"cosine", 20, ""}, kImages,      kBatch, /*seed=*/1, &teacher,
                        &images, &synthetic,         student.get()};
  context.pool_on_host = how.on_host;
  const auto& info = fixtures::registry().find("method", name);
  auto method = fixtures::registry().method(
      {info.kind, info.name, info.version, Params(info.params, given, name)}, host);
  if (change) method = change(method);
  const fixtures::ScratchFolder prepared, folder;
  if (method->needs().preparation) method->prepare(context, prepared.path);
  method->start(context, method->needs().preparation ? prepared.path : std::filesystem::path());
  const Params settings(config::train_table(),
                        {{"steps", kSteps},
                         {"lr", 1e-3},
                         {"grad_clip", 1.0},
                         {"log_every", std::int64_t{5}},
                         {"precision", how.precision},
                         {"graphs", how.graphs},
                         {"checkpoint_every", std::int64_t{1000}}},
                        "test");
  Trained result;
  const auto done =
      train::train(*student, *method, host, settings, 5, folder.path,
                   [&](const std::vector<record::CurvePoint>& points) {
                     result.curves.insert(result.curves.end(), points.begin(), points.end());
                   });
  result.graphs = done.graphs;
  result.raw = io::load_tensors(folder.path / "raw.safetensors");
  result.ema = io::load_tensors(folder.path / "ema.safetensors");
  result.counters = host.counters;
  return result;
}

void check_equal(const TensorMap& there, const TensorMap& here) {
  REQUIRE(there.size() == here.size());
  for (const auto& [name, tensor] : here) {
    INFO(name);
    CHECK(at::equal(there.at(name), tensor));
  }
}

struct Case {
  const char* method;
  Values given;
  bool on_host = false;
};

std::vector<Case> cases() {
  const Value streaming = std::string("streaming");
  return {{"data-based", {}},
          {"data-free", {}},
          {"data-limited", {}},
          {"iterative", {}},
          {"shuffled", {}},
          {"shuffled", {{"prepare", streaming}}},
          {"dynamic", {}},
          {"dynamic", {{"prepare", streaming}}},
          {"dynamic", {{"respacing", std::string("10")}, {"t0_term", std::string("decoder")}}},
          {"iterative", {}, true},
          {"dynamic", {}, true},
          {"dynamic", {{"prepare", streaming}}, true}};
}

}  // namespace

TEST_CASE("training on a device: every method gives the CPU's bits; of sixteen steps one waits",
          "[unit][on_device]") {
  for (const auto& [name, given, on_host] : cases()) {
    INFO(name);
    const Trained here = trained(name, given, at::kCPU);
    const Trained there = trained(name, given, fake_device::device(), {}, {.on_host = on_host});
    if (on_host) {
      const fake_device::Behind rows_return_late;
      check_equal(trained(name, given, fake_device::device(), {}, {.on_host = true}).raw, here.raw);
    }
    check_equal(there.raw, here.raw);
    check_equal(there.ema, here.ema);
    REQUIRE(there.curves.size() == here.curves.size());
    for (std::size_t i = 0; i < here.curves.size(); ++i) {
      CHECK(there.curves[i].name == here.curves[i].name);
      CHECK(there.curves[i].step == here.curves[i].step);
      if (here.curves[i].name != "step_seconds")
        CHECK(there.curves[i].value == here.curves[i].value);
    }

    const Counters& counters = there.counters;
    CHECK(counters.waits == std::map<std::string, std::int64_t>{});
    CHECK(counters.to_host.blocking == 1);  // the look at results, curves among them
    CHECK(counters.to_host.calls == (on_host ? 1 + 16 : 1));  // and rows that return
    CHECK(counters.to_device.blocking == 0);
    // A step: t with the rows that are drawn, or t and the images; and rows that begin again.
    const auto rows = kBatch * kImages.values();
    const bool images = std::string(name).starts_with("data");
    const auto most = images ? kBatch * 8 + rows : kBatch * 24 + rows * 4 * (on_host ? 2 : 1);
    CHECK(counters.to_device.bytes <= 16 * most);
    CHECK(counters.to_device.calls <= 16 * (on_host ? 6 : 3));
  }
}

TEST_CASE("training on a device: a batch set of more than half of it stays on the host",
          "[unit][on_device]") {
  const auto on_host = [](const std::string& pool, double gibibytes, at::Device device) {
    const Params train(config::train_table(), {{"steps", std::int64_t{1}}, {"pool", pool}});
    return stages::keeps_on_host(train, gibibytes * (1 << 30), device);
  };
  const auto device = fake_device::device();  // of 64 GiB
  CHECK_FALSE(on_host("auto", 31, device));
  CHECK(on_host("auto", 33, device));
  CHECK(on_host("host", 1, device));
  CHECK_FALSE(on_host("device", 63, device));
  for (const char* pool : {"auto", "host", "device"}) CHECK_FALSE(on_host(pool, 33, at::kCPU));
}

namespace {

// A method with a fault of one kind. (Host code that reads device memory ends the process: unit
// test fake_device.)
class Planted final : public Method {
 public:
  enum class Fault { item, on_cpu, infinite };
  Planted(std::shared_ptr<Method> method, Fault fault)
      : method_(std::move(method)), fault_(fault) {}
  Needs needs() const override { return method_->needs(); }
  void prepare(const MethodContext& context, const std::filesystem::path& dir) override {
    method_->prepare(context, dir);
  }
  void start(const MethodContext& context, const std::filesystem::path& prepared) override {
    method_->start(context, prepared);
  }
  const GaussianDiffusion& diffusion() const override { return method_->diffusion(); }
  TrainBatch next(std::int64_t step) override {
    step_ = step;
    return method_->next(step);
  }
  LossTerms loss(const TrainBatch& batch, const at::Tensor& output) const override {
    LossTerms terms = method_->loss(batch, output);
    if (fault_ == Fault::item && terms.loss.mean().item<float>() < 0) terms.loss = -terms.loss;
    if (fault_ == Fault::infinite && step_ == 20) terms.loss = terms.loss * INFINITY;
    if (fault_ == Fault::on_cpu) terms.loss = terms.loss * at::ones({terms.loss.size(0)});
    return terms;
  }

 private:
  std::shared_ptr<Method> method_;
  Fault fault_;
  std::int64_t step_ = 0;
};

Trained planted(Planted::Fault fault, at::Device device, const How& how = {}) {
  const auto change = [&](std::shared_ptr<Method> method) {
    return std::make_shared<Planted>(std::move(method), fault);
  };
  return trained("dynamic", {}, device, change, how);
}

}  // namespace

TEST_CASE("training on a device: fewer bits make nobody wait either, nor does an overflow",
          "[unit][on_device]") {
  const auto loss = [](const Trained& trained) {
    double sum = 0;
    for (const auto& point : trained.curves) sum += point.name == "loss" ? point.value : 0;
    return sum;
  };
  const double fp32 = loss(trained("dynamic", {}, fake_device::device()));
  for (const std::string precision : {"bf16", "fp16"}) {
    INFO(precision);
    const Trained there =
        trained("dynamic", {}, fake_device::device(), {}, {.precision = precision});
    CHECK(there.counters.waits == std::map<std::string, std::int64_t>{});
    CHECK(there.counters.to_host.calls == 1);
    CHECK(there.counters.to_device.blocking == 0);
    CHECK(loss(there) == Approx(fp32).epsilon(0.05));
    CHECK(loss(there) != fp32);
    std::vector<double> scales;
    for (const auto& point : there.curves)
      if (point.name == "log2_loss_scale") scales.push_back(point.value);
    CHECK(scales.size() == (precision == "fp16" ? 8 : 0));
  }

  // An overflow in step 20 skips it. In fp32 it ends the training, and is seen 11 steps later.
  const Trained there =
      planted(Planted::Fault::infinite, fake_device::device(), {.precision = "fp16"});
  CHECK(there.counters.waits == std::map<std::string, std::int64_t>{});
  CHECK(there.counters.to_host.calls == 1);
  for (const auto& [name, tensor] : there.raw) CHECK(tensor.isfinite().all().item<bool>());
  const auto last = std::find_if(there.curves.begin(), there.curves.end(), [](const auto& point) {
    return point.name == "log2_loss_scale" && point.step == kSteps;
  });
  REQUIRE(last != there.curves.end());
  CHECK(last->value == Approx(19.033).epsilon(1e-5));
  for (const auto device : {at::Device(at::kCPU), fake_device::device()})
    CHECK_THROWS_WITH(planted(Planted::Fault::infinite, device),
                      Contains("loss or gradient is not finite at step 20 (mse"));
}

TEST_CASE("training on a device: each kind of mistake is found that a CPU does not mind",
          "[unit][on_device]") {
  for (const auto fault : {Planted::Fault::item, Planted::Fault::on_cpu})
    CHECK_NOTHROW(planted(fault, at::kCPU));
  const auto counters = planted(Planted::Fault::item, fake_device::device()).counters;
  CHECK(counters.waits.at("aten::_local_scalar_dense") == 16);
  CHECK_THROWS_WITH(planted(Planted::Fault::on_cpu, fake_device::device()),
                    Contains("aten::mul.Tensor") && Contains("is on cpu, expected fake:0"));
}

namespace {

// A student in whose forward something happens that a recording cannot have.
class Unrecordable final : public Denoiser {
 public:
  enum class Fault { none, waits, from_host, of_the_step, statistics };
  explicit Unrecordable(Fault fault) : fault_(fault) {
    scale_ = register_parameter("scale", at::full({1}, 0.5));
    mean_ = register_buffer("mean", at::zeros({6}));
  }
  at::Tensor forward(const at::Tensor& x_t, const at::Tensor&) override {
    ++calls_;
    at::Tensor h = at::cat({x_t, x_t}, 1) * scale_;
    if (fault_ == Fault::waits && x_t.abs().max().item<float>() > 100) h = h * 2;
    if (fault_ == Fault::from_host) h = h + at::ones({1}).to(x_t.device());
    if (fault_ == Fault::of_the_step) h = h * (1 + 0.001 * calls_);
    if (fault_ == Fault::statistics) {
      const at::NoGradGuard no_grad;
      mean_.lerp_(h.mean({0, 2, 3}), 0.1);
    }
    return h;
  }

 private:
  Fault fault_;
  at::Tensor scale_, mean_;
  int calls_ = 0;
};

Trained unrecordable(Unrecordable::Fault fault, bool graphs, at::Device device) {
  How how{.graphs = graphs};
  how.student = std::make_shared<Unrecordable>(fault);
  how.student->to(device);
  Trained result = trained("dynamic", {}, device, {}, how);
  for (const auto& buffer : how.student->named_buffers())
    result.raw["buffer " + buffer.key()] = buffer.value().to(at::kCPU);
  return result;
}

}  // namespace

TEST_CASE("training on a device: recorded passes give the same bits by far fewer launches",
          "[unit][on_device]") {
  const auto device = fake_device::device();
  const Value streaming = std::string("streaming");
  for (const auto& [name, given, on_host] :
       {Case{"data-based", {}}, Case{"shuffled", {}},
        Case{"dynamic", {{"prepare", streaming}, {"t0_term", std::string("decoder")}}, true}}) {
    INFO(name);
    const Trained always = trained(name, given, device, {}, {.on_host = on_host});
    const Trained there = trained(name, given, device, {}, {.on_host = on_host, .graphs = true});
    CHECK(always.graphs.empty());
    CHECK(there.graphs == "recorded");
    check_equal(there.raw, always.raw);
    check_equal(there.ema, always.ema);
    CHECK(there.counters.waits == std::map<std::string, std::int64_t>{});
    CHECK(there.counters.to_host.blocking == 1);
    CHECK(there.counters.to_device.calls == always.counters.to_device.calls);
    // The teacher is none of train's concern here, so its operators are launched one by one.
    CHECK(there.counters.launches < 0.6 * double(always.counters.launches));
  }
  const Trained always = trained("dynamic", {}, device, {}, {.precision = "fp16"});
  const Trained there = trained("dynamic", {}, device, {}, {.precision = "fp16", .graphs = true});
  CHECK(there.graphs == "recorded");
  check_equal(there.raw, always.raw);
  check_equal(there.ema, always.ema);
  // An overflow where the recording would be compared: the next step decides.
  const Trained overflow =
      planted(Planted::Fault::infinite, device, {.precision = "fp16", .graphs = true});
  CHECK(overflow.graphs == "recorded");
  check_equal(overflow.raw, planted(Planted::Fault::infinite, device, {.precision = "fp16"}).raw);
}

TEST_CASE("training on a device: what cannot be recorded goes on as always, and says why",
          "[unit][on_device]") {
  using Fault = Unrecordable::Fault;
  const auto device = fake_device::device();
  const auto check = [&](Fault fault, const std::string& outcome) {
    const Trained there = unrecordable(fault, true, device);
    CHECK_THAT(there.graphs, Contains(outcome));
    if (fault != Fault::of_the_step) check_equal(there.raw, unrecordable(fault, false, device).raw);
  };
  check(Fault::none, "recorded");
  check(Fault::statistics, "recorded");
  check(Fault::waits,
        "not recorded: network: forward: fake device: waiting for the device "
        "(aten::_local_scalar_dense) while work is recorded");
  check(Fault::from_host,
        "not recorded: network: forward: fake device: a copy from the host while work is recorded");
  check(Fault::of_the_step, "not recorded: its recording gives other numbers than it does");
  CHECK(trained("dynamic", {}, at::kCPU, {}, {.graphs = true}).graphs ==
        "not recorded: cpu records no work");
}
