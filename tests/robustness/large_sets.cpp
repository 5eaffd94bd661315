// Sets larger than memory: drawn, learned from and evaluated in the memory of a batch.
#include <ATen/ATen.h>

#include <catch2/catch.hpp>

#include <cstdlib>
#include <fstream>

#include "dkdm/batch_set.hpp"
#include "dkdm/denoising.hpp"
#include "dkdm/diffusion.hpp"
#include "dkdm/io.hpp"
#include "dkdm/training_data.hpp"
#include "fixtures/analytic.hpp"
#include "io/array/npz_array.hpp"
#include "io/checkpoint/work_file.hpp"
#include "record/environment.hpp"
#include "stages/feed.hpp"
#include "stages/npz_images.hpp"
#include "stages/stages.hpp"

using namespace dkdm;
using fixtures::ClosedForm;
using fixtures::CountingHost;
using fixtures::ScratchFolder;
namespace fs = std::filesystem;

namespace {

// Bytes of this process that no file backs.
double anonymous_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("RssAnon:")) return std::stod(line.substr(8)) * 1024;
  FAIL("no RssAnon");
  return 0;
}

// The most of them while something runs, above those at its start.
struct Peak {
  const double start = anonymous_bytes();
  double most = 0;
  void look() { most = std::max(most, anonymous_bytes() - start); }
};

struct WatchingHost : CountingHost {
  Peak* peak = nullptr;
  void progress(const std::string& unit, std::int64_t done, std::int64_t total) override {
    CountingHost::progress(unit, done, total);
    if (peak && calls % 16 == 0) peak->look();
  }
};

// Keeps a sum, as an evaluator keeps moments.
struct Sum final : Evaluator {
  double sum = 0;
  std::int64_t count = 0;

  std::int64_t min_samples() const override { return 2; }
  void prepare(const Dataset&, std::uint64_t, const fs::path&) override {}
  void open(const fs::path&) override {}
  std::string protocol() const override { return "sum"; }
  std::string reference_fingerprint() const override { return ""; }
  std::int64_t reference_count() const override { return 0; }
  void add(const at::Tensor& images) override {
    sum += images.sum(at::kDouble).item<double>();
    count += images.size(0);
  }
  std::vector<Metric> finish() override { return {}; }
  io::TensorMap state() override { return {}; }
  void merge(const io::TensorMap&) override {}
  void reset(std::int64_t) override {}
};

// 60,000 images in the suite; all of ImageNet32 by DKDM_LARGE_SET=1281167.
std::int64_t set_size() {
  const char* asked = std::getenv("DKDM_LARGE_SET");
  return asked ? std::stoll(asked) : 60000;
}

}  // namespace

TEST_CASE("large sets: drawn, trained on and evaluated in the memory of a few batches",
          "[robustness]") {
  const std::int64_t count = set_size();
  const SampleShape shape{3, 32, 32};
  // Some batches, and the order of an epoch: the set itself is 3 kB an image.
  const double allowed = 60e6 + 24.0 * double(count);
  INFO(count << " images, " << double(count * shape.values()) / 1e6 << " MB");
  ScratchFolder scratch;
  WatchingHost host;
  const TrainedModel model{std::make_shared<ClosedForm>(), {"cosine", 100, ""}, shape};
  const stages::SamplingSpec spec{{"ddim", 0, true}, "2", count, 64, 7};
  record::Manifest manifest;

  Peak drawing;
  host.peak = &drawing;
  stages::draw_samples(host, model, spec, scratch.path, manifest);
  drawing.look();
  CHECK(drawing.most < allowed);

  Peak training;
  const auto images = stages::open_samples(scratch.path);
  REQUIRE(images->size() == count);
  {
    TrainingImages examples({{images.get(), at::arange(count, at::kLong)}}, shape, 512, 1,
                            /*flip=*/true);
    for (std::int64_t step = 0; step < count / 512; ++step) {
      examples.batch(step);
      if (step % 16 == 0) training.look();
    }
  }
  CHECK(training.most < allowed);

  Peak evaluating;
  host.peak = &evaluating;
  Sum sum;
  stages::add_images(sum, stages::NpzImages(scratch.path / stages::kSamplesFile), 0, count, host);
  evaluating.look();
  CHECK(evaluating.most < allowed);
  CHECK(sum.count == count);
  WARN("RssAnon above the start, MB: drawing " << drawing.most / 1e6 << ", training "
                                               << training.most / 1e6 << ", evaluating "
                                               << evaluating.most / 1e6);
}

TEST_CASE("large sets: a checkpoint's batch set is in memory once while it is written",
          "[robustness]") {
  ScratchFolder scratch;
  constexpr std::int64_t kRows = 25'000;
  const SampleShape shape{3, 32, 32};
  const double bytes = double(kRows) * double(shape.values()) * sizeof(float);  // 307 MB
  const GaussianDiffusion chain({"cosine", 1000, ""});
  BatchSet set(chain, shape, 1, kRows, TeacherClip::both);
  set.fill(at::full({1, 3, 32, 32}, 0.5f).expand({kRows, 3, 32, 32}), at::arange(kRows) % 999 + 1);
  record::restart_peak_resident();
  const auto before = record::peak_resident_bytes();
  REQUIRE(double(before) > bytes);
  io::save_work(scratch.path / "checkpoint.safetensors", set.state(), {{"step", "7"}});
  CHECK(double(record::peak_resident_bytes() - before) < bytes / 4);
  // In logical order, and nothing left out.
  const auto saved = io::load_work(scratch.path / "checkpoint.safetensors");
  CHECK(saved.tensor("x", at::kFloat, {kRows, 3, 32, 32}).sum(at::kDouble).item<double>() ==
        0.5 * double(kRows) * double(shape.values()));
  CHECK(saved.tensor("state", at::kLong, {kRows})[1000].item<std::int64_t>() == 2);
}

TEST_CASE("large sets: written piece by piece, an npz is what write_npz writes", "[robustness]") {
  ScratchFolder scratch;
  const at::Tensor images =
      at::arange(7 * 4 * 5 * 3, at::kLong).remainder(251).to(at::kByte).view({7, 4, 5, 3});
  io::write_npz(scratch.path / "whole.npz", {{"arr_0", images}});
  io::write_npz_rows(scratch.path / "rows.npz", "arr_0", images.sizes(), [&](const auto& take) {
    take(images.slice(0, 0, 2));
    take(images.slice(0, 2, 7));
  });
  const auto bytes = [&](const char* name) {
    std::ifstream file(scratch.path / name, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  CHECK(bytes("rows.npz") == bytes("whole.npz"));

  const at::Tensor mapped = io::map_npz(scratch.path / "rows.npz", "arr_0");
  CHECK(at::equal(mapped, images));
  mapped[0].zero_();  // stays here
  CHECK(at::equal(io::map_npz(scratch.path / "rows.npz", "arr_0"), images));
}

TEST_CASE("large sets: a byte that changed on disk is found when the set is opened",
          "[robustness]") {
  ScratchFolder scratch;
  const auto file = scratch.path / "a.npz";
  io::write_npz(file, {{"arr_0", at::full({9, 16, 16, 1}, 5, at::kByte)}});
  {
    std::fstream bytes(file, std::ios::in | std::ios::out | std::ios::binary);
    bytes.seekp(500);
    bytes.put(6);
  }
  CHECK_THROWS_AS(io::map_npz(file, "arr_0"), DataError);
  fs::resize_file(file, fs::file_size(file) / 2);
  CHECK_THROWS_AS(io::map_npz(file, "arr_0"), DataError);
}
