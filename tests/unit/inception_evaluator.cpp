// The inception evaluator with seeded random weights: what it does around the network and the
// statistics, which have tests of their own. A few small images: a forward costs a fifth of a
// second.
#include <catch2/catch.hpp>

#include <cstdlib>

#include "dkdm/io.hpp"
#include "dkdm/numpy_choice.hpp"
#include "fixtures/analytic.hpp"
#include "fixtures/inception.hpp"

using Catch::Contains;
using dkdm::Params;
using dkdm::Value;
using dkdm::fixtures::CountingHost;
using dkdm::fixtures::ScratchFolder;
using dkdm::fixtures::shipped_plugins;

namespace {

constexpr std::int64_t kImages = 8, kSide = 16;

// Waves in which every image differs; `from` 1 gives others. [3,16,16].
class Waves final : public dkdm::Dataset {
 public:
  explicit Waves(std::int64_t from = 0)
      : all_(dkdm::fixtures::inception_images({2 * kImages, 3, kSide, kSide})
                 .slice(0, from * kImages, (from + 1) * kImages)),
        from_(from) {}
  dkdm::ImageSpec spec() const override { return {3, kSide, kSide}; }
  std::int64_t size() const override { return kImages; }
  std::string fingerprint() const override { return "waves " + std::to_string(from_); }
  at::Tensor images(const at::Tensor& index) const override { return all_.index_select(0, index); }
  const at::Tensor& all() const { return all_; }

 private:
  at::Tensor all_;
  std::int64_t from_;
};

const std::filesystem::path& weights_file() {
  static const ScratchFolder scratch;
  static const std::filesystem::path file = [] {
    const auto state = dkdm::fixtures::inception_state();
    dkdm::io::save_tensors(scratch.path / "weights.safetensors", {state.begin(), state.end()});
    return scratch.path / "weights.safetensors";
  }();
  return file;
}

std::shared_ptr<dkdm::Evaluator> evaluator(dkdm::Host& host,
                                           std::map<std::string, Value> given = {}) {
  given.insert({"weights", weights_file().string()});
  given.insert({"batch", std::int64_t{4}});
  const auto& info = shipped_plugins().find("evaluator", "inception");
  return shipped_plugins().evaluator(
      {info.kind, info.name, info.version, Params(info.params, given)}, host);
}

struct Prepared {
  ScratchFolder scratch;
  CountingHost host;
  Waves reference{0}, samples{1};
  std::shared_ptr<dkdm::Evaluator> opened = evaluator(host);
  Prepared() {
    opened->prepare(reference, 0, scratch.path);
    opened->open(scratch.path);
  }
};
const Prepared& prepared() {
  static const Prepared prepared;
  return prepared;
}

std::map<std::string, double> finish(dkdm::Evaluator& evaluator) {
  std::map<std::string, double> values;
  for (const auto& metric : evaluator.finish()) values[metric.name] = metric.value;
  return values;
}

}  // namespace

TEST_CASE("inception: a set against itself has distance zero and full precision and recall",
          "[unit][evaluator]") {
  auto& inception = *prepared().opened;
  inception.add(prepared().reference.all());
  const auto self = finish(inception);
  REQUIRE(self.size() == 5);
  inception.add(prepared().samples.all());
  const auto other = finish(inception);
  CHECK(std::abs(self.at("fid")) < 1e-6 * other.at("fid"));
  CHECK(std::abs(self.at("sfid")) < 1e-6 * other.at("sfid"));
  CHECK(self.at("precision") == 1);
  CHECK(self.at("recall") == 1);
  CHECK(self.at("is") >= 1);
  CHECK(other.at("fid") > 0);
}

TEST_CASE("inception: what was computed with unpublished weights says so", "[unit][evaluator]") {
  CountingHost host;
  CHECK_THAT(prepared().opened->protocol(),
             Catch::Matchers::Matches("unpublished-[0-9a-f]{8}-adm-1"));
  CHECK_THAT(
      evaluator(host, {{"protocol", std::string("clean")}, {"k", std::int64_t{5}}})->protocol(),
      Catch::Matchers::Matches("unpublished-[0-9a-f]{8}-clean-1-k5"));
  CHECK(prepared().opened->min_samples() == 4096);
  CHECK(prepared().opened->reference_count() == kImages);
  CHECK(prepared().opened->reference_fingerprint() == "waves 0");
  // What is computed of the samples alone does not make another reference.
  CHECK(evaluator(host, {{"metrics", std::vector<std::string>{"fid"}}})->identity() ==
        prepared().opened->identity());
  CHECK(evaluator(host, {{"protocol", std::string("clean")}})->identity() !=
        prepared().opened->identity());
}

TEST_CASE("inception: an evaluation cut in two goes on to the same values; shards merge",
          "[unit][evaluator]") {
  CountingHost host;
  auto& inception = *prepared().opened;
  const at::Tensor& images = prepared().samples.all();
  inception.add(images);
  const auto whole = finish(inception);
  // 5 of 8: one batch of 4 computed, one image waiting.
  inception.add(images.slice(0, 0, 5));
  const auto state = inception.state();
  inception.reset();
  inception.restore(state);
  inception.add(images.slice(0, 5));
  CHECK(finish(inception) == whole);

  inception.reset(5);
  inception.add(images.slice(0, 5));
  const auto last = inception.state();
  inception.reset();
  inception.merge(last);
  inception.merge(state);
  const auto merged = finish(inception);
  for (const auto& [name, value] : whole)
    CHECK(merged.at(name) == Approx(value).epsilon(1e-4));  // other batches, rounding in float32
}

TEST_CASE("inception: statistics of a file stand for the images they were computed from",
          "[unit][evaluator]") {
  CountingHost host;
  ScratchFolder scratch;
  const auto& first = *prepared().opened;
  const auto second =
      evaluator(host, {{"metrics", std::vector<std::string>{"fid", "sfid", "recall"}}});
  dkdm::Evaluator::Statistics statistics;
  statistics.arrays = first.reference_statistics();
  statistics.protocol = first.protocol();
  statistics.fingerprint = "file";
  second->prepare_from_statistics(statistics, nullptr, scratch.path);
  second->open(scratch.path);
  CHECK_THAT(host.said, Contains("no precision and recall"));
  CHECK(second->reference_count() == 0);
  second->add(prepared().samples.all());
  const auto values = finish(*second);
  REQUIRE(values.size() == 2);  // no recall without the reference's features
  prepared().opened->add(prepared().samples.all());
  const auto whole = finish(*prepared().opened);
  CHECK(values.at("fid") == Approx(whole.at("fid")).epsilon(1e-9));
  CHECK(values.at("sfid") == Approx(whole.at("sfid")).epsilon(1e-9));

  statistics.protocol = "pytorch-fid-1-6726825d";
  CHECK_THROWS_WITH(second->prepare_from_statistics(statistics, nullptr, scratch.path),
                    Contains("pytorch-fid-1-6726825d") && Contains(first.protocol()));
}

TEST_CASE("inception: torch-fidelity's IS is of ten shuffled splits, with its deviation",
          "[unit][evaluator]") {
  CountingHost host;
  ScratchFolder scratch;
  const auto inception = evaluator(host, {{"protocol", std::string("torch-fidelity")},
                                          {"metrics", std::vector<std::string>{"is"}}});
  inception->prepare(prepared().reference, 0, scratch.path);
  inception->open(scratch.path);
  // Eight images, eight splits: each score is exp(0).
  inception->add(prepared().samples.all());
  const auto values = finish(*inception);
  CHECK(values.at("is") == Approx(1));
  CHECK(values.at("is_std") == Approx(0).margin(1e-12));
}

TEST_CASE(
    "inception: a protocol has the metrics of the evaluator that it is named after, no others",
    "[unit][evaluator]") {
  const auto offers = [](const char* protocol, std::vector<std::string> metrics) {
    CountingHost host;
    return evaluator(host, {{"protocol", std::string(protocol)}, {"metrics", metrics}});
  };
  // pytorch-fid 0.3.0 and clean-fid 0.1.35 compute FID alone of these; torch-fidelity 0.4.0 has IS,
  // and its precision and recall are of VGG16's features.
  CHECK_THROWS_WITH(offers("torch-fidelity", {"precision"}),
                    Contains("torch-fidelity has no \"precision\"") && Contains("VGG16") &&
                        Contains("protocol = \"adm\""));
  CHECK_THROWS_WITH(offers("torch-fidelity", {"fid", "recall"}), Contains("\"recall\""));
  CHECK_THROWS_WITH(offers("torch-fidelity", {"sfid"}), Contains("\"sfid\""));
  CHECK_THROWS_WITH(offers("pytorch-fid", {"is"}), Contains("it has fid, fid_inf"));
  CHECK_THROWS_WITH(offers("clean", {"sfid"}), Contains("protocol = \"adm\" has it"));
  for (const char* protocol : {"adm", "pytorch-fid", "torch-fidelity", "clean"})
    CHECK_NOTHROW(offers(protocol, {"fid", "fid_inf"}));

  CountingHost host;
  ScratchFolder scratch;
  const auto usual = evaluator(host, {{"protocol", std::string("torch-fidelity")}});
  usual->prepare(prepared().reference, 0, scratch.path);
  usual->open(scratch.path);
  usual->add(prepared().samples.all());
  std::vector<std::string> names;
  for (const auto& [name, value] : finish(*usual)) names.push_back(name);
  CHECK(names == std::vector<std::string>{"fid", "is", "is_std"});
}

TEST_CASE("inception: bias and spread of FID", "[unit][evaluator]") {
  CountingHost host;
  const auto inception = evaluator(host, {{"metrics", std::vector<std::string>{"fid", "fid_inf"}},
                                          {"bootstrap", std::int64_t{20}}});
  inception->open(prepared().scratch.path);
  inception->add(prepared().samples.all());
  inception->add(prepared().reference.all());
  inception->add(prepared().samples.all());
  const auto values = finish(*inception);
  CHECK(values.at("fid_low") < values.at("fid"));
  CHECK(values.at("fid") < values.at("fid_high"));
  CHECK(values.at("fid_inf") < values.at("fid"));  // few samples make FID too large
}

TEST_CASE("inception: what cannot be evaluated is refused with what is needed",
          "[unit][evaluator]") {
  CountingHost host;
  auto& inception = *prepared().opened;
  CHECK_THROWS_WITH(inception.add(at::zeros({2, 3, 8, 8}, at::kByte)),
                    Contains("8 x 8 pixels") && Contains("have 16 x 16"));
  CHECK_THROWS_WITH(inception.add(at::zeros({2, 3, kSide, kSide})), Contains("Float"));
  CHECK_THROWS_WITH(inception.finish(), Contains("0 images") && Contains("at least 2"));
  inception.add(prepared().samples.all().slice(0, 0, 3));
  CHECK_THROWS_AS(inception.finish(), dkdm::DataError);  // three neighbours of three images
  CHECK_THROWS_WITH(inception.merge({}), Contains("has no protocol"));
  CHECK_THROWS_WITH(evaluator(host, {{"metrics", std::vector<std::string>{"fidd"}}}),
                    Contains("fidd") && Contains("sfid"));
  // Without weights: what to put where.
  ScratchFolder home;
  ::setenv("DKDM_HOME", home.path.c_str(), 1);
  ::unsetenv("DKDM_INCEPTION_WEIGHTS");
  CHECK_THROWS_WITH(evaluator(host, {{"weights", std::string()}})->identity(),
                    Contains("pt_inception-2015-12-05-6726825d.pth") &&
                        Contains("6726825d0af5f729") && Contains((home.path / "weights").string()));
}
