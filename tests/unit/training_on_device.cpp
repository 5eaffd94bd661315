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

std::shared_ptr<Denoiser> network(std::uint64_t seed, at::Device device) {
  auto made = fixtures::student("adm-unet",
                                {{"model_channels", std::int64_t{32}},
                                 {"num_res_blocks", std::int64_t{1}},
                                 {"channel_mult", std::vector<std::int64_t>{1, 2}},
                                 {"attention_resolutions", std::vector<std::int64_t>{4}},
                                 {"num_heads", std::int64_t{2}},
                                 {"dropout", 0.1}},
                                kImages, seed, {"cosine", 20, ""});
  made->to(device);
  return made;
}

struct Trained {
  TensorMap raw, ema;
  std::vector<record::CurvePoint> curves;
  Counters counters;
};

using Change = std::function<std::shared_ptr<Method>(std::shared_ptr<Method>)>;

Trained trained(const std::string& name, const Values& given, at::Device device,
                const Change& change = {}, const std::string& precision = "fp32",
                bool on_host = false) {
  Watching host(device);
  const fixtures::NumberedImages images(40, 1, {3, 8, 8}), synthetic(60, 100, {3, 8, 8});
  TrainedModel teacher{network(3, device), {"cosine", 20, ""}, kImages};
  teacher.network->eval();
  const auto student = network(4, device);
  MethodContext context{host,    {"cosine", 20, ""}, kImages,      kBatch, /*seed=*/1, &teacher,
                        &images, &synthetic,         student.get()};
  context.pool_on_host = on_host;
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
                         {"precision", precision},
                         {"checkpoint_every", std::int64_t{1000}}},
                        "test");
  Trained result;
  train::train(*student, *method, host, settings, 5, folder.path,
               [&](const std::vector<record::CurvePoint>& points) {
                 result.curves.insert(result.curves.end(), points.begin(), points.end());
               });
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
    const Trained there = trained(name, given, fake_device::device(), {}, "fp32", on_host);
    if (on_host) {
      const fake_device::Behind rows_return_late;
      check_equal(trained(name, given, fake_device::device(), {}, "fp32", true).raw, here.raw);
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

Trained planted(Planted::Fault fault, at::Device device, const std::string& precision = "fp32") {
  const auto change = [&](std::shared_ptr<Method> method) {
    return std::make_shared<Planted>(std::move(method), fault);
  };
  return trained("dynamic", {}, device, change, precision);
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
    const Trained there = trained("dynamic", {}, fake_device::device(), {}, precision);
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
  const Trained there = planted(Planted::Fault::infinite, fake_device::device(), "fp16");
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
