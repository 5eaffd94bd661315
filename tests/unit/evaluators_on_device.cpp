// Evaluators on a device that is not the CPU: the CPU's values, nothing from the wrong device, and
// a device that is waited for once a batch, for the batch before.
#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>

#include <catch2/catch.hpp>

#include "dkdm/files.hpp"
#include "dkdm/io.hpp"
#include "dkdm/random.hpp"
#include "fake_device/compare.hpp"
#include "fixtures/analytic.hpp"
#include "fixtures/inception.hpp"

using namespace dkdm;
using namespace fake_device;
using Catch::Matchers::Contains;
using fixtures::ScratchFolder;

namespace {

// Bright rows at a place that says the class, on noise. [1,8,8].
class Bars final : public Dataset {
 public:
  static constexpr std::int64_t kSize = 600, kClasses = 3;
  ImageSpec spec() const override { return {1, 8, 8}; }
  std::int64_t size() const override { return kSize; }
  std::int64_t num_classes() const override { return kClasses; }
  std::string fingerprint() const override { return "bars"; }
  Tensor labels(const Tensor& index) const override { return index.remainder(kClasses); }
  Tensor images(const Tensor& index) const override {
    const Tensor noise = Random(1, Stream::augment).normal(0, index, spec().sizes()) * 25 + 80;
    const Tensor rows = at::arange(8, at::kLong).div(2, "floor").view({1, 1, 8, 1});
    return (noise + rows.eq(labels(index).view({-1, 1, 1, 1})) * 60).clamp(0, 255).to(at::kByte);
  }
  // Of others than the dataset's own.
  Tensor more(std::int64_t first, std::int64_t count) const {
    return images(at::arange(kSize + first, kSize + first + count, at::kLong));
  }
};

// Waves, in which every image differs. [3,16,16].
class Waves final : public Dataset {
 public:
  static constexpr std::int64_t kSize = 6;
  ImageSpec spec() const override { return {3, 16, 16}; }
  std::int64_t size() const override { return kSize; }
  std::string fingerprint() const override { return "waves"; }
  Tensor images(const Tensor& index) const override { return all_.index_select(0, index); }
  Tensor more(std::int64_t first, std::int64_t count) const {
    return all_.narrow(0, kSize + first, count);
  }

 private:
  Tensor all_ = fixtures::inception_images({2 * kSize, 3, 16, 16});
};

std::shared_ptr<Evaluator> evaluator(const std::string& name, std::map<std::string, Value> given,
                                     Host& host) {
  const auto& info = fixtures::shipped_plugins().find("evaluator", name);
  return fixtures::shipped_plugins().evaluator(
      {info.kind, info.name, info.version, Params(info.params, given)}, host);
}

std::shared_ptr<Evaluator> classifier(Host& host) {
  return evaluator("classifier",
                   {{"width", std::int64_t{8}},
                    {"features", std::int64_t{16}},
                    {"batch", std::int64_t{32}},
                    {"epochs", std::int64_t{4}},
                    {"lr", 1e-2}},
                   host);
}

constexpr std::int64_t kBatch = 2;  // of the evaluator inception

std::shared_ptr<Evaluator> inception(Host& host) {
  static const ScratchFolder scratch;
  static const auto file = [] {
    const auto state = fixtures::inception_state();
    io::save_tensors(scratch.path / "weights.safetensors", {state.begin(), state.end()});
    return scratch.path / "weights.safetensors";
  }();
  return evaluator("inception", {{"weights", file.string()}, {"batch", kBatch}}, host);
}

using Values = std::map<std::string, double>;

Values finish(Evaluator& evaluator) {
  Values values;
  for (const auto& metric : evaluator.finish()) values[metric.name] = metric.value;
  return values;
}

// All that an evaluator does, and the counters of its parts.
struct Done {
  ScratchFolder folder;
  Values whole, restored, merged;
  Counters preparing, adding;
  std::string protocol;
};

template <class Data>
void evaluate(Evaluator& evaluator, const Data& data, std::int64_t count, Done& done) {
  reset_counters();
  evaluator.prepare(data, /*seed=*/5, done.folder.path);
  evaluator.open(done.folder.path);
  done.preparing = counters();
  done.protocol = evaluator.protocol();
  reset_counters();
  evaluator.add(data.more(0, count));
  done.whole = finish(evaluator);
  done.adding = counters();

  const std::int64_t part = count / 2 + 1;
  evaluator.add(data.more(0, part));
  const io::TensorMap first = evaluator.state();
  for (const auto& [name, tensor] : first) CHECK(tensor.is_cpu());
  evaluator.reset();
  evaluator.restore(first);
  evaluator.add(data.more(part, count - part));
  done.restored = finish(evaluator);

  evaluator.reset(part);
  evaluator.add(data.more(part, count - part));
  const io::TensorMap second = evaluator.state();
  evaluator.reset();
  evaluator.merge(first);
  evaluator.merge(second);
  done.merged = finish(evaluator);
}

}  // namespace

TEST_CASE("evaluators on a device: the classifier is trained and measures as on the CPU",
          "[unit][on_device]") {
  const Bars data;
  constexpr std::int64_t kCount = 700;  // three batches of 256
  Done there, here;
  fixtures::HostOn accelerator(device()), cpu(at::kCPU);
  evaluate(*classifier(accelerator), data, kCount, there);
  evaluate(*classifier(cpu), data, kCount, here);
  // The same kernels in the same order, so the same bits: of the weights as well.
  for (const char* file : {"weights.safetensors", "reference.safetensors", "classifier.json"}) {
    INFO(file);
    CHECK(io::sha256_file(there.folder.path / file) == io::sha256_file(here.folder.path / file));
  }
  CHECK(there.protocol == here.protocol);
  CHECK(there.whole == here.whole);
  CHECK(there.restored == here.restored);
  CHECK(there.restored == there.whole);
  CHECK(there.merged == here.merged);

  // Training waits for nothing: once for the share classified rightly, and for each batch of the
  // reference, three of 256.
  CHECK(there.preparing.waits ==
        std::map<std::string, std::int64_t>{{"aten::_local_scalar_dense", 1}, {"synchronize", 3}});
  CHECK(there.adding.waits == std::map<std::string, std::int64_t>{{"synchronize", 3}});
  // Its 14 tensors go there when it is made, read and opened, and come back once, to be saved.
  constexpr std::int64_t kTensors = 14;
  CHECK(there.preparing.to_device.blocking == 3 * kTensors);
  CHECK(there.preparing.to_host.blocking == kTensors);
  CHECK(there.adding.to_device.blocking == 0);
  CHECK(there.adding.to_host.blocking == 0);
  CHECK(there.adding.to_device.calls == 3);
  CHECK(there.adding.to_host.calls == 3 * 3);
}

TEST_CASE("evaluators on a device: inception's values are the CPU's", "[unit][on_device]") {
  const Waves data;
  Done there, here;
  fixtures::HostOn accelerator(device()), cpu(at::kCPU);
  evaluate(*inception(accelerator), data, Waves::kSize, there);
  evaluate(*inception(cpu), data, Waves::kSize, here);
  CHECK(there.protocol == here.protocol);
  // Another path through the convolutions than the CPU's, whose weights are reordered and whose
  // ReLU is part of them: sums of float32 in another order.
  for (const auto& [name, value] : here.whole) {
    INFO(name);
    CHECK(there.whole.at(name) == Approx(value).epsilon(1e-5));
    CHECK(there.merged.at(name) == Approx(here.merged.at(name)).epsilon(1e-5));
  }
  CHECK(there.restored == there.whole);

  const std::map<std::string, std::int64_t> once_a_batch{{"synchronize", Waves::kSize / kBatch}};
  for (const Counters* counters : {&there.preparing, &there.adding}) {
    CHECK(counters->waits == once_a_batch);
    CHECK(counters->to_host.blocking == 0);
    CHECK(counters->to_host.calls == 3 * Waves::kSize / kBatch);
  }
  // The weights are sent as they are read, once.
  CHECK(there.adding.to_device.blocking == 0);
  CHECK(there.adding.to_device.calls == Waves::kSize / kBatch);
}

TEST_CASE("evaluators on a device: images given there are looked at, the network wants its own's",
          "[unit][on_device]") {
  const Bars data;
  Done here;
  fixtures::HostOn cpu(at::kCPU);
  const auto made = classifier(cpu);
  evaluate(*made, data, 300, here);
  made->add(data.more(0, 300).to(device()));
  CHECK(finish(*made) == here.whole);

  const metrics::Inception network(fixtures::inception_state(), device());
  CHECK_THROWS_WITH(network(at::zeros({1, 3, 299, 299})),
                    Contains("images are on cpu, the network is on fake:0"));
}

TEST_CASE("evaluators on a device: autocast of the process changes no value", "[unit][on_device]") {
  const Bars bars;
  const Waves waves;
  Done plain[2], cast[2];
  fixtures::HostOn cpu(at::kCPU);
  evaluate(*classifier(cpu), bars, 300, plain[0]);
  evaluate(*inception(cpu), waves, Waves::kSize, plain[1]);
  at::autocast::set_autocast_enabled(at::kCPU, true);
  const at::Tensor square = at::ones({2, 2});
  CHECK(square.mm(square).scalar_type() == at::kBFloat16);
  evaluate(*classifier(cpu), bars, 300, cast[0]);
  evaluate(*inception(cpu), waves, Waves::kSize, cast[1]);
  at::autocast::set_autocast_enabled(at::kCPU, false);
  at::autocast::clear_cache();
  for (const int i : {0, 1}) CHECK(plain[i].whole == cast[i].whole);
  CHECK(plain[0].protocol == cast[0].protocol);
}

TEST_CASE("evaluators on a device: CUDA has every operator", "[unit][on_device]") {
  if (!knows_cuda()) {
    WARN("this LibTorch came without native_functions.yaml");
    return;
  }
  const Composites composites;
  fixtures::HostOn accelerator(device());
  Done trained, measured;
  evaluate(*classifier(accelerator), Bars(), 300, trained);
  evaluate(*inception(accelerator), Waves(), Waves::kSize, measured);
  for (const Counters* counters :
       {&trained.preparing, &trained.adding, &measured.preparing, &measured.adding}) {
    CHECK(counters->operators.size() > 5);
    CHECK(missing_on_cuda(counters->operators) == std::vector<std::string>{});
  }
}
