// The classifier evaluator on a small set of labelled images that is learnt in seconds.
#include <catch2/catch.hpp>

#include <nlohmann/json.hpp>

#include "dkdm/files.hpp"
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

// Class k (= index mod 3, or thirds of the whole): two bright rows at 2k, on noise. [3,8,8].
class Bars final : public dkdm::Dataset {
 public:
  explicit Bars(std::int64_t size, bool labelled = true, bool sorted = false,
                std::int64_t width = 8)
      : size_(size), width_(width), labelled_(labelled), sorted_(sorted) {}
  dkdm::ImageSpec spec() const override { return {3, 8, width_}; }
  std::int64_t size() const override { return size_; }
  std::int64_t num_classes() const override { return labelled_ ? kClasses : 0; }
  std::string fingerprint() const override { return "bars"; }
  at::Tensor labels(const at::Tensor& index) const override {
    return sorted_ ? at::div(index * kClasses, size_, "floor") : index.remainder(kClasses);
  }
  at::Tensor images(const at::Tensor& index) const override {
    at::Tensor x = Random(1, Stream::augment).normal(0, index, spec().sizes()) * 25 + 80;
    const at::Tensor classes = labels(index);
    for (std::int64_t i = 0; i < index.size(0); ++i)
      x[i].narrow(1, 2 * classes[i].item<std::int64_t>(), 2) += 60;
    return x.clamp(0, 255).to(at::kByte);
  }
  at::Tensor images(std::int64_t first, std::int64_t count) const {
    return images(at::arange(first, first + count, at::kLong));
  }

 private:
  std::int64_t size_, width_;
  bool labelled_, sorted_;
};

// Labels that the images say nothing about. [3,8,8].
class Guesses final : public dkdm::Dataset {
 public:
  dkdm::ImageSpec spec() const override { return {3, 8, 8}; }
  std::int64_t size() const override { return 600; }
  std::int64_t num_classes() const override { return 2; }
  std::string fingerprint() const override { return "guesses"; }
  at::Tensor labels(const at::Tensor& index) const override { return index.remainder(2); }
  at::Tensor images(const at::Tensor& index) const override {
    return (Random(1, Stream::augment).normal(0, index, {3, 8, 8}) * 40 + 120)
        .clamp(0, 255)
        .to(at::kByte);
  }
};

// The images of a dataset of 1 x 16 x 16, without labels.
class Small final : public dkdm::Dataset {
 public:
  dkdm::ImageSpec spec() const override { return {1, 16, 16}; }
  std::int64_t size() const override { return 300; }
  std::string fingerprint() const override { return "small"; }
  at::Tensor images(const at::Tensor& index) const override {
    return (Random(3, Stream::augment).normal(0, index, {1, 16, 16}) * 40 + 120)
        .clamp(0, 255)
        .to(at::kByte);
  }
};

std::shared_ptr<dkdm::Evaluator> with(dkdm::Host& host, std::map<std::string, Value> given) {
  const auto& info = shipped_plugins().find("evaluator", "classifier");
  return shipped_plugins().evaluator(
      {info.kind, info.name, info.version, Params(info.params, given)}, host);
}

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

TEST_CASE("classifier: rectangular images, whose network is read back as it was",
          "[unit][evaluator]") {
  ScratchFolder scratch;
  CountingHost host;
  const Bars wide(1200, true, false, 20);
  evaluator(host)->prepare(wide, 5, scratch.path);
  const auto classifier = evaluator(host);
  classifier->open(scratch.path);
  const at::Tensor good = wide.images(1200, 256);
  CHECK(values(*classifier, good).fid < values(*classifier, (good / 2).to(at::kByte)).fid);
  CHECK_THROWS_WITH(classifier->add(prepared().data.images(0, 4)),
                    Catch::Matchers::Contains("[n,3,8,20]"));
}

TEST_CASE("classifier: unseen images score far better than blurred ones and noise",
          "[unit][evaluator]") {
  auto& classifier = *prepared().opened;
  const Bars more(3000);
  const auto real = values(classifier, more.images(1200, 600));
  const at::Tensor sharp = more.images(1200, 600).to(at::kFloat);
  const auto blurred =
      values(classifier, at::avg_pool2d(sharp, {3, 3}, {1, 1}, {1, 1}).to(at::kByte));
  const auto noise =
      values(classifier, (Random(2, Stream::augment).normal(0, 0, 600, {3, 8, 8}) * 40 + 100)
                             .clamp(0, 255)
                             .to(at::kByte));
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

TEST_CASE("classifier: an evaluation cut anywhere goes on to the same values",
          "[unit][evaluator]") {
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
  CHECK_THROWS_WITH(classifier.merge(states[0]), Catch::Contains("expected classifier-2-"));
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
  CHECK_THAT(again->protocol(), Catch::Matchers::Matches("classifier-2-trained-[0-9a-f]{8}"));
  CHECK(again->reference_fingerprint() == "bars");
  CHECK(again->reference_count() == 1200);
  CHECK_THROWS_AS(again->reference_statistics(), dkdm::ConfigError);
  CHECK(again->min_samples() == 2 * 7 * 4 * 4);
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
                    Catch::Contains("no labels to train on"));
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
      Catch::Contains("weights.safetensors") && Catch::Contains("16 features, expected 8 and 32"));
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

TEST_CASE("classifier: images sorted by class are learnt and held out of every class",
          "[unit][evaluator]") {
  ScratchFolder scratch;
  CountingHost host;
  evaluator(host)->prepare(Bars(1200, true, true), 5, scratch.path);
  const auto about = nlohmann::json::parse(dkdm::io::read_text(scratch.path / "classifier.json"));
  CHECK(about.at("held_out_accuracy").get<double>() > 0.9);
  CHECK(about.at("chance").get<double>() < 0.6);  // of three classes, not of the last alone
}

TEST_CASE("classifier: one that tells no classes apart is refused, or accepted and named poor",
          "[unit][evaluator]") {
  ScratchFolder scratch, accepted;
  CountingHost host;
  CHECK_THROWS_WITH(evaluator(host)->prepare(Guesses(), 1, scratch.path),
                    Catch::Contains("of its 50 held-out images") && Catch::Contains("poor = true"));
  const auto poor = evaluator(host, {{"poor", true}});
  poor->prepare(Guesses(), 1, accepted.path);
  poor->open(accepted.path);
  CHECK_THAT(poor->protocol(), Catch::Matchers::Matches("classifier-2-trained-[0-9a-f]{8}-poor"));
  CHECK_THAT(host.said, Catch::Contains("WARNING"));
}

TEST_CASE("classifier: weights passed on are the same ruler under the same name",
          "[unit][evaluator]") {
  ScratchFolder scratch, other;
  CountingHost host;
  const auto file = prepared().scratch.path / "weights.safetensors";
  const auto elsewhere = with(host, {{"weights", file.string()}});
  CHECK(elsewhere->min_samples() ==
        32);  // features of the file; those of space show when it is open
  CHECK(elsewhere->identity() == with(host, {{"weights", file.string()}})->identity());
  elsewhere->prepare(Bars(1200, false), /*seed=*/99, scratch.path);  // labels are not needed
  elsewhere->open(scratch.path);
  CHECK(elsewhere->protocol() == prepared().opened->protocol());
  const at::Tensor images = prepared().data.images(0, 300);
  CHECK(values(*elsewhere, images) == values(*prepared().opened, images));

  CHECK_THROWS_WITH(with(host, {{"weights", std::string("fashion-mnist-61")}})->identity(),
                    Catch::Contains("fashion-mnist-61") && Catch::Contains("(fashion-mnist-16)"));
  CHECK_THROWS_WITH(with(host, {{"weights", file.string()}, {"epochs", std::int64_t{9}}}),
                    Catch::Contains("epochs is for training"));
  CHECK_THROWS_WITH(with(host, {{"weights", file.string()}})->prepare(Small(), 1, other.path),
                    Catch::Contains("for images of 3x8x8, the reference has 1x16x16"));
}

TEST_CASE("classifier: a flipped bit in prepared weights or statistics is found on opening",
          "[unit][evaluator]") {
  CountingHost host;
  for (const char* name : {"weights.safetensors", "reference.safetensors"}) {
    ScratchFolder scratch;
    std::filesystem::copy(prepared().scratch.path, scratch.path,
                          std::filesystem::copy_options::recursive);
    std::string bytes = dkdm::io::read_text(scratch.path / name);
    bytes[bytes.size() - 2] ^= 1;
    dkdm::io::write_text(scratch.path / name, bytes);
    CHECK_THROWS_WITH(evaluator(host)->open(scratch.path),
                      Catch::Contains(name) && Catch::Contains("is damaged"));
  }
}

TEST_CASE("classifier: the network that comes with dkdm is one ruler, whatever the reference",
          "[unit][evaluator]") {
  ScratchFolder scratch;
  CountingHost host;
  const auto shipped = with(host, {{"weights", std::string("fashion-mnist-16")}});
  CHECK(shipped->min_samples() == 128);
  shipped->prepare(Small(), 1, scratch.path);
  shipped->open(scratch.path);
  const auto file = std::filesystem::path(DKDM_SOURCE_DIR) /
                    "plugins/evaluators/classifiers/fashion-mnist-16.safetensors";
  CHECK(shipped->protocol() ==
        "classifier-2-fashion-mnist-16-" + dkdm::io::sha256_file(file).substr(0, 8));
  // By its file, it is the same.
  const auto by_file = with(host, {{"weights", file.string()}});
  CHECK(by_file->identity() == shipped->identity());

  // It knows clothes: of 1,000 test images that it never saw, the score is near the ten
  // classes' 10.
  const auto& info = shipped_plugins().find("dataset", "fashion-mnist");
  const auto test = shipped_plugins().dataset(
      {info.kind, info.name, info.version, Params(info.params, {{"split", std::string("test")}})},
      host);
  CHECK(values(*shipped, test->images(at::arange(1000, at::kLong))).is > 6);
  std::map<std::string, std::string> metadata;
  dkdm::io::load_tensors(file, &metadata);
  CHECK(std::stod(metadata.at("accuracy")) == 0.9002);
}

TEST_CASE(
    "classifier: without a word, the very dataset of the network that comes with dkdm takes it",
    "[unit][evaluator]") {
  CountingHost host;
  ScratchFolder scratch;
  const auto& info = shipped_plugins().find("dataset", "fashion-mnist");
  const auto train = shipped_plugins().dataset(
      {info.kind, info.name, info.version, Params(info.params, {})}, host);
  const auto usual = with(host, {});
  usual->prepare(*train, 1, scratch.path);
  usual->open(scratch.path);
  CHECK_THAT(usual->protocol(), Catch::StartsWith("classifier-2-fashion-mnist-16-"));
}
