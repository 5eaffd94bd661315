// A sample set on its way from the sampler into an evaluator: the values are those of a set on
// disk, whatever interrupts it.
#include "stages/stages.hpp"

#include <catch2/catch.hpp>

#include "dkdm/files.hpp"
#include "dkdm/random.hpp"
#include "fixtures/analytic.hpp"
#include "record/metrics_file.hpp"

using namespace dkdm;
using fixtures::ClosedForm;
using fixtures::CountingHost;
using fixtures::ScratchFolder;
using fixtures::shipped_plugins;

namespace {

namespace fs = std::filesystem;

// Two classes of noise, one darker. [1,8,8].
class TwoShades final : public Dataset {
 public:
  ImageSpec spec() const override { return {1, 8, 8}; }
  std::int64_t size() const override { return 256; }
  std::int64_t num_classes() const override { return 2; }
  std::string fingerprint() const override { return "two shades"; }
  at::Tensor labels(const at::Tensor& index) const override { return index.remainder(2); }
  at::Tensor images(const at::Tensor& index) const override {
    const auto noise = Random(1, Stream::augment).normal(0, index, {1, 8, 8}) * 20;
    return (noise + 90 + labels(index).view({-1, 1, 1, 1}) * 60).clamp(0, 255).to(at::kByte);
  }
};

plugin::PluginChoice classifier() {
  const auto& info = shipped_plugins().find("evaluator", "classifier");
  const std::map<std::string, Value> given{{"width", std::int64_t{8}},
                                           {"features", std::int64_t{8}},
                                           {"batch", std::int64_t{32}},
                                           {"epochs", std::int64_t{1}},
                                           {"poor", true}};  // seven steps teach it little
  return {info.kind, info.name, info.version, Params(info.params, given)};
}

// 240 images of 8 steps in batches of 32, of a network in closed form.
struct Desk {
  CountingHost host;
  stages::StageContext bench{shipped_plugins(), host, nullptr};
  ScratchFolder scratch;
  std::shared_ptr<ClosedForm> network = std::make_shared<ClosedForm>();
  TrainedModel model{network, {"cosine", 1000, ""}, {1, 8, 8}};
  stages::SamplingSpec spec{{}, "8", 240, 32, 7};
  stages::Evaluation evaluation{classifier(), scratch.path / "evaluator", "ema", 40};

  Desk() {
    fs::create_directories(evaluation.prepared);
    shipped_plugins()
        .evaluator(evaluation.evaluator, host)
        ->prepare(TwoShades(), /*seed=*/0, evaluation.prepared);
  }

  fs::path folder(const std::string& name) const {
    fs::create_directories(scratch.path / name);
    return scratch.path / name;
  }
  // Values of the set drawn into the evaluator, in `name`.
  std::vector<record::MetricRecord> drawn(const std::string& name) {
    record::Manifest samples, manifest;
    samples.stage = "sample";
    samples.key = "k";
    samples.parts = {{"network", "n"}};
    stages::evaluate_drawn(bench, evaluation, model, spec, samples, folder(name), manifest);
    return record::read_metrics(folder(name));
  }
};

void check_equal(const std::vector<record::MetricRecord>& a,
                 const std::vector<record::MetricRecord>& b) {
  REQUIRE(a.size() >= 3);
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    INFO(a[i].name);
    CHECK(a[i].name == b[i].name);
    CHECK(a[i].value == b[i].value);
    CHECK(a[i].sample_count == b[i].sample_count);
    CHECK(a[i].step == b[i].step);
  }
}

}  // namespace

TEST_CASE(
    "evaluation: a set that is drawn into the evaluator has the values of the same set on disk",
    "[unit][evaluation]") {
  Desk desk;
  const auto streamed = desk.drawn("streamed");
  CHECK_FALSE(fs::exists(desk.folder("streamed") / stages::kSamplesFile));
  record::Manifest manifest;
  stages::draw_samples(desk.bench.host, desk.model, desk.spec, desk.folder("samples"), manifest);
  stages::evaluate_saved(desk.bench, desk.evaluation, desk.folder("samples"), desk.folder("saved"),
                         manifest);
  check_equal(record::read_metrics(desk.folder("saved")), streamed);
  CHECK(streamed[0].sample_count == 240);
  CHECK(streamed[0].step == 40);
  // The same picture, of the first 64.
  CHECK(io::sha256_file(desk.folder("streamed") / stages::kGridFile) ==
        io::sha256_file(desk.folder("samples") / stages::kGridFile));
}

TEST_CASE("evaluation: interrupted anywhere, it goes on to the same bits", "[unit][evaluation]") {
  Desk desk;
  const auto whole = desk.drawn("whole");
  const auto images_drawn = desk.network->images;
  // 8 batches of 8 steps, a progress call each.
  for (const std::int64_t calls : {3, 20, 31, 50}) {
    const auto name = "stopped-" + std::to_string(calls);
    desk.host.calls = 0;
    desk.host.allowed = calls;
    CHECK_THROWS_AS(desk.drawn(name), Interrupted);
    desk.host.allowed = -1;
    desk.network->images = 0;
    check_equal(desk.drawn(name), whole);
    // Whole batches are not drawn again.
    CHECK(desk.network->images == images_drawn - calls / 8 * 32 * 8);
    CHECK_FALSE(fs::exists(desk.folder(name) / "unfinished.safetensors"));
  }
}

TEST_CASE("evaluation: what was drawn and not kept leaves its manifest", "[unit][evaluation]") {
  Desk desk;
  desk.drawn("streamed");
  const auto manifest = record::read_manifest(desk.folder("streamed") / record::kSamplesManifest);
  REQUIRE(manifest);
  CHECK(manifest->stage == "sample");
  CHECK(manifest->key == "k");
  CHECK(manifest->parts == record::KeyParts{{"network", "n"}});
  CHECK(manifest->steps == 240);
  CHECK(manifest->elapsed_s > 0);
  CHECK(manifest->flops == 0.0);  // the closed form multiplies no matrices
  CHECK_FALSE(record::read_manifest(desk.folder("streamed") / "none.json"));
}
