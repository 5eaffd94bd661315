// The counts of real images in the paper's data-limited sets, and the images chosen for them.
#include <catch2/catch.hpp>

#include <ATen/ATen.h>

#include "dkdm/files.hpp"
#include "dkdm/python_sample.hpp"
#include "dkdm/training_data.hpp"
#include "golden/packed.hpp"

namespace {

// As make_python_sample.py hashes values.
std::string digest(const std::vector<std::int64_t>& values) {
  std::string text;
  for (const std::int64_t value : values) text += (text.empty() ? "" : ",") + std::to_string(value);
  return dkdm::io::sha256(text);
}

std::vector<std::int64_t> values_of(const at::Tensor& places) {
  const auto* data = places.const_data_ptr<std::int64_t>();
  return {data, data + places.numel()};
}

struct Case {
  const char* dataset;
  std::int64_t total;
  double fraction;
  std::int64_t real;
};

}  // namespace

TEST_CASE("mixing: the paper's data-limited sets have the reference's counts",
          "[conformance][train]") {
  // Python's round(total * fraction), as in the authors' datasets/mix.py. 202599 * 0.05 = 10129.95,
  // 1281167 * 0.05 = 64058.35 and so on: no case is within rounding error of a half.
  const Case c =
      GENERATE(Case{"CIFAR10", 50000, 0.05, 2500}, Case{"CIFAR10", 50000, 0.1, 5000},
               Case{"CIFAR10", 50000, 0.15, 7500}, Case{"CIFAR10", 50000, 0.2, 10000},
               Case{"CelebA64", 202599, 0.05, 10130}, Case{"CelebA64", 202599, 0.15, 30390},
               Case{"CelebA64", 202599, 0.2, 40520}, Case{"ImageNet32", 1281167, 0.1, 128117},
               Case{"ImageNet32", 1281167, 0.15, 192175});
  INFO(c.dataset << " " << c.fraction);
  const dkdm::Mixture mixture = dkdm::reference_mixture(c.total, c.total, c.fraction);
  CHECK(mixture.real.size(0) == c.real);
  CHECK(mixture.synthetic.size(0) == c.total - c.real);
}

TEST_CASE("mixing: a half is rounded to even", "[conformance][train]") {
  // Python: round(5 * 0.5) == 2, round(7 * 0.5) == 4.
  CHECK(dkdm::reference_mixture(5, 5, 0.5).real.size(0) == 2);
  CHECK(dkdm::reference_mixture(7, 7, 0.5).real.size(0) == 4);
}

TEST_CASE("mixing: CIFAR10 at 5 % holds the reference's images", "[conformance][train]") {
  // numpy 2.4.6, seed 0: choice(50000, 2500), then choice(50000, 47500), both without replacement.
  const dkdm::Mixture mixture = dkdm::reference_mixture(50000, 50000, 0.05);
  CHECK(
      at::equal(mixture.real.narrow(0, 0, 4), at::tensor({11841, 19602, 45519, 25747}, at::kLong)));
  CHECK(at::equal(mixture.synthetic.narrow(0, 0, 4),
                  at::tensor({28921, 11971, 15919, 6271}, at::kLong)));
}

TEST_CASE("mixing: the two ends are pure", "[conformance][train]") {
  const dkdm::Mixture none = dkdm::reference_mixture(10, 6, 0);
  const dkdm::Mixture all = dkdm::reference_mixture(10, 6, 1);
  CHECK(none.real.numel() == 0);
  CHECK(at::equal(std::get<0>(at::sort(none.synthetic)), at::arange(6, at::kLong)));
  CHECK(all.real.numel() == 6);
  CHECK(all.synthetic.numel() == 0);
}

TEST_CASE("python_sample: every draw is CPython's, by its pool and by its set",
          "[conformance][train]") {
  // golden/python_sample.json: all draws of a seed from one stream, in the order of the file.
  const auto golden = dkdm::golden::read_json("python_sample.json");
  std::map<std::uint32_t, dkdm::PythonSample> streams;
  for (const auto& draw : golden.at("draws")) {
    const auto seed = draw.at("seed").get<std::uint32_t>();
    INFO("seed " << seed << ", " << draw.at("count") << " of " << draw.at("n"));
    auto& stream = streams.try_emplace(seed, seed).first->second;
    const auto values =
        stream.sample(draw.at("n").get<std::int64_t>(), draw.at("count").get<std::int64_t>());
    CHECK(digest(values) == draw.at("sha256").get<std::string>());
  }
  CHECK(streams.size() == 4);
}

TEST_CASE("mixing: the ten lists of the authors' latent experiments", "[conformance][train]") {
  // Places in the sorted lists of names; make_python_sample.py compares the names with the files
  // that the authors ship.
  const auto golden = dkdm::golden::read_json("python_sample.json");
  REQUIRE(golden.at("mixtures").size() == 10);
  for (const auto& list : golden.at("mixtures")) {
    const auto total = list.at("total").get<std::int64_t>();
    const auto fraction = list.at("fraction").get<double>();
    INFO(list.at("set") << " " << fraction);
    const auto mixture = dkdm::reference_mixture(total, total, fraction, dkdm::Draw::python);
    CHECK(mixture.real.size(0) == list.at("real").get<std::int64_t>());
    CHECK(digest(values_of(at::cat({mixture.real, mixture.synthetic}))) ==
          list.at("sha256").get<std::string>());
  }
}
