// The classifier evaluator on a small set of labelled images that is learnt in seconds.
#include <catch2/catch.hpp>

#include "dkdm/io.hpp"
#include "dkdm/random.hpp"
#include "fixtures/analytic.hpp"

using dkdm::Params;
using dkdm::Random;
using dkdm::Stream;
using dkdm::Value;
using dkdm::fixtures::CountingHost;
using dkdm::fixtures::ScratchFolder;
using dkdm::fixtures::shipped_plugins;

namespace {

constexpr std::int64_t kClasses = 3;

// Class k (= index mod 3): two bright rows at 2k, on noise. [3,8,8].
class Bars final : public dkdm::Dataset {
 public:
  explicit Bars(std::int64_t size, bool labelled = true) : size_(size), labelled_(labelled) {}
  dkdm::ImageSpec spec() const override { return {3, 8}; }
  std::int64_t size() const override { return size_; }
  std::int64_t num_classes() const override { return labelled_ ? kClasses : 0; }
  std::string fingerprint() const override { return "bars"; }
  at::Tensor labels(const at::Tensor& index) const override { return index.remainder(kClasses); }
  at::Tensor images(const at::Tensor& index) const override {
    at::Tensor x = Random(1, Stream::augment).normal(0, index, {3, 8, 8}) * 25 + 80;
    for (std::int64_t i = 0; i < index.size(0); ++i)
      x[i].narrow(1, 2 * (index[i].item<std::int64_t>() % kClasses), 2) += 60;
    return x.clamp(0, 255).to(at::kByte);
  }
  at::Tensor images(std::int64_t first, std::int64_t count) const {
    return images(at::arange(first, first + count, at::kLong));
  }

 private:
  std::int64_t size_;
  bool labelled_;
};

std::shared_ptr<dkdm::Evaluator> evaluator(dkdm::Host& host,
                                           std::map<std::string, Value> given = {}) {
  given.insert({"width", std::int64_t{8}});
  given.insert({"features", std::int64_t{16}});
  given.insert({"batch", std::int64_t{32}});
  given.insert({"epochs", std::int64_t{4}});
  given.insert({"lr", 1e-2});
  const auto& info = shipped_plugins().find("evaluator", "classifier");
  return shipped_plugins().evaluator(
      {info.kind, info.name, info.version, Params(info.params, given)}, host);
}

// One evaluator for the tests that only read it.
struct Prepared {
  ScratchFolder scratch;
  CountingHost host;
  Bars data{1200};
  std::shared_ptr<dkdm::Evaluator> opened = evaluator(host);
  Prepared() {
    opened->prepare(data, /*seed=*/5, scratch.path);
    opened->open(scratch.path);
  }
};
const Prepared& prepared() {
  static const Prepared prepared;
  return prepared;
}

struct Values {
  double is, fid, sfid;
  bool operator==(const Values&) const = default;
};
Values finish(dkdm::Evaluator& evaluator) {
  const auto metrics = evaluator.finish();
  REQUIRE(metrics.size() == 3);
  CHECK((metrics[0].name == "is" && metrics[0].higher_is_better));
  CHECK((metrics[1].name == "fid" && !metrics[1].higher_is_better));
  CHECK((metrics[2].name == "sfid" && !metrics[2].higher_is_better));
  return {metrics[0].value, metrics[1].value, metrics[2].value};
}
Values values(dkdm::Evaluator& evaluator, const at::Tensor& images) {
  evaluator.add(images);
  return finish(evaluator);
}

}  // namespace

TEST_CASE("classifier: unseen images score far better than blurred ones and noise",
          "[unit][evaluator]") {
  auto& classifier = *prepared().opened;
  const Bars more(3000);
  const auto real = values(classifier, more.images(1200, 600));
  const at::Tensor sharp = more.images(1200, 600).to(at::kFloat);
  const auto blurred =
      values(classifier, at::avg_pool2d(sharp, {3, 3}, {1, 1}, {1, 1}).to(at::kByte));
  const auto noise = values(
      classifier,
      (Random(2, Stream::augment).normal(0, 0, 600, {3, 8, 8}) * 40 + 100).clamp(0, 255).to(
          at::kByte));
  // Three classes told apart and evenly drawn would be exactly 3.
  CHECK(real.is > 2.5);
  CHECK(real.is < 3);
  CHECK(noise.is < real.is - 0.5);
  CHECK(blurred.fid > 10 * real.fid);
  CHECK(noise.fid > 10 * real.fid);
  CHECK(blurred.sfid > 10 * real.sfid);
  CHECK(noise.sfid > 10 * real.sfid);
}

TEST_CASE("classifier: the reference against itself is zero", "[unit][evaluator]") {
  const auto self = values(*prepared().opened, prepared().data.images(0, 1200));
  CHECK(std::abs(self.fid) < 1e-8);
  CHECK(std::abs(self.sfid) < 1e-8);
}

TEST_CASE("classifier: values do not depend on how the images come", "[unit][evaluator]") {
  auto& classifier = *prepared().opened;
  const at::Tensor images = prepared().data.images(0, 700);
  const auto whole = values(classifier, images);
  for (std::int64_t step : {1, 100, 256, 300}) {
    for (const auto& part : images.split(step)) classifier.add(part);
    CHECK(finish(classifier) == whole);
  }
}

TEST_CASE("classifier: an evaluation cut anywhere goes on to the same values", "[unit][evaluator]") {
  CountingHost host;
  auto& classifier = *prepared().opened;
  const auto later = evaluator(host);
  later->open(prepared().scratch.path);
  const at::Tensor images = prepared().data.images(0, 700);
  const auto whole = values(classifier, images);
  for (std::int64_t cut : {0, 1, 256, 300, 699}) {
    classifier.add(images.slice(0, 0, cut));
    const auto state = classifier.state();
    classifier.add(images.slice(0, cut));  // goes its own way: the state stays as it was
    later->add(images.slice(0, 0, 5));     // forgotten by restore
    later->restore(state);
    later->add(images.slice(0, cut));
    CHECK(finish(*later) == whole);
    CHECK(finish(classifier) == whole);
  }
}

TEST_CASE("classifier: shards merge into the whole", "[unit][evaluator]") {
  auto& classifier = *prepared().opened;
  const at::Tensor images = prepared().data.images(0, 700);
  const auto whole = values(classifier, images);
  std::vector<dkdm::io::TensorMap> states;
  for (std::int64_t first = 0; first < 700; first += 300) {
    classifier.reset(first);
    classifier.add(images.slice(0, first, first + 300));
    states.push_back(classifier.state());
  }
  classifier.reset();
  for (const int i : {2, 0, 1}) classifier.merge(states[std::size_t(i)]);
  const auto merged = finish(classifier);
  // Images fall into other batches: the network's rounding differs, in float32.
  CHECK(merged.is == Approx(whole.is).epsilon(1e-5));
  CHECK(merged.fid == Approx(whole.fid).epsilon(1e-4));
  CHECK(merged.sfid == Approx(whole.sfid).epsilon(1e-4));
  states[0]["protocol"] = at::full({3}, 'A', at::kByte);
  CHECK_THROWS_WITH(classifier.merge(states[0]), Catch::Contains("expected classifier-1-"));
  CHECK_THROWS_WITH(classifier.merge({}), Catch::Contains("has no protocol"));
}

TEST_CASE("classifier: opened again it gives the same values under the same protocol",
          "[unit][evaluator]") {
  CountingHost host;
  const auto again = evaluator(host);
  again->open(prepared().scratch.path);
  const at::Tensor images = prepared().data.images(0, 300);
  CHECK(values(*again, images) == values(*prepared().opened, images));
  CHECK(again->protocol() == prepared().opened->protocol());
  CHECK_THAT(again->protocol(), Catch::Matchers::Matches("classifier-1-[0-9a-f]{8}"));
  CHECK(again->reference_fingerprint() == "bars");
  CHECK(again->reference_count() == 1200);
  CHECK_THROWS_AS(again->reference_statistics(), dkdm::ConfigError);
  CHECK(again->least_samples() == 2 * 7 * 4 * 4);
  const auto about = dkdm::io::read_text(prepared().scratch.path / "classifier.json");
  CHECK_THAT(about, Catch::Contains("\"reference_images\": 1200") &&
                        Catch::Contains("\"held_out_images\": 100"));
}

TEST_CASE("classifier: weights follow the seed and nothing else", "[unit][evaluator]") {
  CountingHost host;
  const Bars data(300);
  auto protocol = [&](std::uint64_t seed) {
    ScratchFolder scratch;
    at::rand({3});  // moves the default generator, which plays no part
    const auto made = evaluator(host);
    made->prepare(data, seed, scratch.path);
    made->open(scratch.path);
    return made->protocol();
  };
  const auto first = protocol(1);
  CHECK(protocol(1) == first);
  CHECK(protocol(2) != first);
}

TEST_CASE("classifier: what cannot be evaluated is refused with what is needed",
          "[unit][evaluator]") {
  auto& classifier = *prepared().opened;
  CHECK_THROWS_WITH(classifier.add(at::zeros({4, 1, 8, 8}, at::kByte)),
                    Catch::Contains("[n,3,8,8]") && Catch::Contains("[4, 1, 8, 8]"));
  CHECK_THROWS_WITH(classifier.add(at::zeros({4, 3, 8, 8})), Catch::Contains("Float"));
  CHECK_THROWS_WITH(classifier.finish(), Catch::Contains("0 images"));
  classifier.add(prepared().data.images(0, 1));
  CHECK_THROWS_WITH(classifier.finish(),
                    Catch::Contains("1 images") && Catch::Contains("at least 2"));
  // A refusal leaves nothing behind.
  classifier.add(prepared().data.images(0, 1));
  CHECK_THROWS_AS(classifier.finish(), dkdm::DataError);

  ScratchFolder scratch;
  CountingHost host;
  CHECK_THROWS_WITH(evaluator(host)->prepare(Bars(1200, false), 1, scratch.path),
                    Catch::Contains("no labels"));
  CHECK_THROWS_WITH(evaluator(host)->prepare(Bars(223), 1, scratch.path),
                    Catch::Contains("reference dataset") && Catch::Contains("223 images"));
  host.allowed = 3;
  CHECK_THROWS_AS(evaluator(host)->prepare(Bars(300), 1, scratch.path), dkdm::Interrupted);
}

TEST_CASE("classifier: a folder that was not prepared for these parameters is named",
          "[unit][evaluator]") {
  CountingHost host;
  CHECK_THROWS_WITH(
      evaluator(host, {{"features", std::int64_t{32}}})->open(prepared().scratch.path),
      Catch::Contains("weights.safetensors") && Catch::Contains("conv1.weight"));
  ScratchFolder scratch;
  std::filesystem::copy(prepared().scratch.path, scratch.path,
                        std::filesystem::copy_options::recursive);
  dkdm::io::write_text(scratch.path / "classifier.json", "{");
  CHECK_THROWS_WITH(evaluator(host)->open(scratch.path), Catch::Contains("classifier.json"));
  std::filesystem::remove(scratch.path / "reference.safetensors");
  std::filesystem::copy(prepared().scratch.path / "classifier.json",
                        scratch.path / "classifier.json",
                        std::filesystem::copy_options::overwrite_existing);
  CHECK_THROWS_WITH(evaluator(host)->open(scratch.path), Catch::Contains("reference.safetensors"));
}
