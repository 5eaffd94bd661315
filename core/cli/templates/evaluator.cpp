// my-plugin: how far the pixels of samples are from those of real images, as the squared maximum
// mean discrepancy under KID's kernel k(a, b) = (a.b / d + 1)^3 (Bińkowski et al. 2018), unbiased.
// Images are averaged down first. No network: no weights, and no notion of what an image shows.
#include <ATen/ATen.h>

#include <algorithm>

#include "dkdm/boundary.hpp"
#include "dkdm/evaluator.hpp"
#include "dkdm/io.hpp"

namespace {

using at::Tensor;
namespace fs = std::filesystem;

// Sum of k(a_i, b_j) over all i and j. a [n,D], b [m,D] f64.
Tensor kernel_sum(const Tensor& a, const Tensor& b) {
  return (a.mm(b.t()) / a.size(1) + 1).pow(3).sum();
}

// The same over i != j of one set, as a mean.
Tensor mean_of_pairs(const Tensor& a) {
  const Tensor self = (a.square().sum(1) / a.size(1) + 1).pow(3).sum();
  return (kernel_sum(a, a) - self) / (a.size(0) * (a.size(0) - 1));
}

class MyPlugin final : public dkdm::Evaluator {
 public:
  static dkdm::ParamTable params() {
    return {dkdm::integer("side", 8, "images are averaged down to side x side").between(1, 64),
            dkdm::integer("reference", 2048, "real images, the dataset's first").between(2, 1e6)};
  }

  MyPlugin(const dkdm::Params& params, dkdm::Host&)
      : side_(params.integer("side")), count_(params.integer("reference")) {}

  std::int64_t min_samples() const override { return 2 * side_ * side_; }

  void prepare(const dkdm::Dataset& reference, std::uint64_t, const fs::path& dir) override {
    const Tensor images = reference.images(at::arange(std::min(count_, reference.size())));
    const dkdm::ImageSpec spec = reference.spec();
    dkdm::io::save_tensors(dir / kFile,
                           {{"features", features(images)},
                            {"spec", at::tensor({spec.channels, spec.height, spec.width})}},
                           {{"fingerprint", reference.fingerprint()}});
  }

  void open(const fs::path& dir) override {
    std::map<std::string, std::string> about;
    const auto tensors = dkdm::io::load_tensors(dir / kFile, &about);
    reference_ = tensors.at("features");
    const auto* sides = tensors.at("spec").const_data_ptr<std::int64_t>();
    spec_ = {sides[0], sides[1], sides[2]};
    fingerprint_ = about.at("fingerprint");
    reset();
  }

  std::string protocol() const override { return "my-plugin-1-" + std::to_string(side_); }
  std::string reference_fingerprint() const override { return fingerprint_; }
  std::int64_t reference_count() const override { return reference_.size(0); }

  void add(const Tensor& images) override {
    if (images.dim() != 4 || images.scalar_type() != at::kByte ||
        images.sizes().slice(1) != at::IntArrayRef(spec_.sizes()))
      throw dkdm::DataError("samples", "expected uint8 images of the reference's shape");
    append(features(images));
  }

  std::vector<dkdm::Metric> finish() override {
    const Tensor samples = samples_;
    reset();
    if (samples.size(0) < 2) throw dkdm::DataError("samples", "expected at least two images");
    const Tensor between = kernel_sum(samples, reference_) / (samples.size(0) * reference_.size(0));
    const Tensor mmd = mean_of_pairs(samples) + mean_of_pairs(reference_) - 2 * between;
    return {{"pixel_mmd", mmd.item<double>(), /*higher_is_better=*/false, ""}};
  }

  // What was added, as features.
  dkdm::io::TensorMap state() override { return {{"features", samples_.clone()}}; }
  void merge(const dkdm::io::TensorMap& state) override {
    const Tensor other = state.contains("features") ? state.at("features") : Tensor();
    if (!other.defined() || other.dim() != 2 || other.size(1) != reference_.size(1))
      throw dkdm::DataError("state", "is none of " + protocol());
    append(other);
  }
  void reset(std::int64_t = 0) override {
    samples_ = at::empty({0, reference_.size(1)}, at::kDouble);
  }

 private:
  static constexpr const char* kFile = "reference.safetensors";

  // uint8 [n,C,H,W] -> f64 [n,D].
  Tensor features(const Tensor& images) const {
    const Tensor values = images.to(at::kFloat) / 127.5 - 1;
    return at::adaptive_avg_pool2d(values, {side_, side_}).flatten(1).to(at::kDouble);
  }
  void append(const Tensor& features) { samples_ = at::cat({samples_, features}); }

  std::int64_t side_, count_;
  dkdm::ImageSpec spec_;
  std::string fingerprint_;
  Tensor reference_, samples_;  // features
};

}  // namespace

DKDM_EVALUATOR("my-plugin", "1", "distance of pixel distributions, without a network", MyPlugin)
