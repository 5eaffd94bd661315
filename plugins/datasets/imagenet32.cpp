// ImageNet at 32 x 32 (Chrabaszcz et al., 2017, "A downsampled variant of ImageNet"): ten npz
// files, `data` uint8 [N,3072], the red plane first, and `labels` 1 … 1000. Images stay in the
// files, which are mapped: 3.9 GB that no memory is needed for. Order: batches 1 to 10, as in the
// authors' code.
#include <cstring>

#include "dkdm/announced.hpp"
#include "dkdm/files.hpp"
#include "dkdm/io.hpp"
#include "dkdm/plugin.hpp"
#include "image_files.hpp"

namespace {

namespace fs = std::filesystem;
using dkdm::DataError;
using dkdm::Host;
using dkdm::Params;

constexpr std::int64_t kBatch = 128'116, kLastBatch = 128'123, kValidation = 50'000;
constexpr std::int64_t kSide = 32, kPixels = 3 * kSide * kSide, kClasses = 1000;
const char* const kFolder = "imagenet32";

std::vector<std::string> names_of(const std::string& split) {
  if (split == "val") return {"val_data.npz"};
  std::vector<std::string> names;
  for (int i = 1; i <= 10; ++i) names.push_back("train_data_batch_" + std::to_string(i) + ".npz");
  return names;
}

std::string remedy(const std::string& split) {
  return "unpack Imagenet32_" + split +
         "_npz.zip (\"Download downsampled image data\", https://image-net.org; the npz files, not "
         "the pickles) and set `root` to that folder, or $DKDM_DATA to the parent of a folder "
         "imagenet32";
}

class ImageNet32 final : public dkdm::Dataset {
 public:
  static dkdm::ParamTable params() {
    return {dkdm::text("root", "", "folder of the npz files (empty = imagenet32 in $DKDM_DATA)"),
            dkdm::text("split", "train",
                       "which images: train = train_data_batch_1 … 10.npz, val = val_data.npz")
                .one_of({"train", "val"}),
            dkdm::integer("images", 0,
                          "how many the files hold in all; 0 = 1281167 or 50000, as published")
                .between(0, 1281167)};
  }

  static void announce(const Params& params, dkdm::Announced& announced) {
    const auto root = dkdm::datasets::data_folder(params.text("root"), kFolder);
    const std::string& split = params.text("split");
    std::vector<fs::path> files;
    for (const std::string& name : names_of(split)) files.push_back(root / name);
    dkdm::datasets::announce_absence(files, "absent; " + remedy(split), announced);
    const auto published = split == "val" ? kValidation : 9 * kBatch + kLastBatch;
    announced.spec = dkdm::ImageSpec::square(3, kSide);
    announced.images = params.integer("images") > 0 ? params.integer("images") : published;
  }

  ImageNet32(const Params& params, Host&)
      : root_(dkdm::datasets::data_folder(params.text("root"), kFolder)),
        split_(params.text("split")), published_(params.integer("images") == 0),
        names_(names_of(split_)) {
    find_files();
    std::vector<at::Tensor> labels;
    for (std::size_t i = 0; i < names_.size(); ++i) labels.push_back(open(i));
    labels_ = at::cat(labels);
    if (const auto expected = params.integer("images"); !published_ && size() != expected)
      throw DataError(root_.string(), "holds " + std::to_string(size()) +
                                          " images where `images` says " +
                                          std::to_string(expected));
  }

  dkdm::ImageSpec spec() const override { return dkdm::ImageSpec::square(3, kSide); }
  std::int64_t size() const override { return labels_.size(0); }
  std::int64_t num_classes() const override { return kClasses; }

  at::Tensor images(const at::Tensor& index) const override {
    const at::Tensor wanted = index.to(at::kCPU, at::kLong).contiguous();
    const auto* at_index = wanted.const_data_ptr<std::int64_t>();
    at::Tensor images = at::empty(spec().batch(wanted.numel()), at::kByte);
    auto* out = images.mutable_data_ptr<std::uint8_t>();
    for (std::int64_t i = 0; i < wanted.numel(); ++i, out += kPixels) {
      std::int64_t row = at_index[i];
      TORCH_CHECK_INDEX(row >= 0 && row < size(), "image ", row, " of ", size());
      auto batch = batches_.begin();
      for (; row >= batch->size(0); ++batch) row -= batch->size(0);
      std::memcpy(out, batch->const_data_ptr<std::uint8_t>() + row * kPixels, kPixels);
    }
    return images;
  }

  at::Tensor labels(const at::Tensor& index) const override {
    return labels_.index_select(0, index);
  }

  // By the files' own checksums, which were compared with their bytes when they were opened.
  std::string fingerprint() const override {
    std::string text = "imagenet32 1\n";
    for (const std::string& name : names_) text += dkdm::io::npz_checksums(root_ / name);
    return dkdm::io::sha256(text);
  }

 private:
  void find_files() const {
    std::vector<std::string> missing;
    for (const std::string& name : names_)
      if (!fs::exists(root_ / name)) missing.push_back(name);
    if (missing.empty()) return;
    throw DataError(root_.string(),
                    dkdm::datasets::first_ten(missing, "file") + " missing; " + remedy(split_));
  }

  // Takes in file `i`; its labels, int64 [N] in 0 … 999.
  at::Tensor open(std::size_t i) {
    const fs::path file = root_ / names_[i];
    const at::Tensor data = dkdm::io::map_npz(file, "data");
    if (data.scalar_type() != at::kByte || data.dim() != 2 || data.size(1) != kPixels)
      throw DataError(file.string() + ": 'data'",
                      "expected uint8 [N,3072], found " +
                          std::string(c10::toString(data.scalar_type())) + " of " +
                          c10::str(data.sizes()));
    const std::int64_t expected = split_ == "val"          ? kValidation
                                  : i + 1 == names_.size() ? kLastBatch
                                                           : kBatch;
    if (published_ && data.size(0) != expected)
      throw DataError(file.string() + ": 'data'",
                      std::to_string(data.size(0)) + " images where the published file has " +
                          std::to_string(expected) + "; `images` says how many a trial has");
    const at::Tensor labels = dkdm::io::read_npz(file, "labels");
    if (labels.dim() != 1 || labels.size(0) != data.size(0) ||
        !at::isIntegralType(labels.scalar_type(), false))
      throw DataError(file.string() + ": 'labels'",
                      "expected " + std::to_string(data.size(0)) + " integers, found " +
                          std::string(c10::toString(labels.scalar_type())) + " of " +
                          c10::str(labels.sizes()));
    const at::Tensor whole = labels.to(at::kLong);
    const at::Tensor wrong = whole.lt(1).logical_or(whole.gt(kClasses)).nonzero();
    if (wrong.numel() > 0) {
      const auto row = wrong[0][0].item<std::int64_t>();
      throw DataError(file.string() + ": 'labels'",
                      "label " + std::to_string(whole[row].item<std::int64_t>()) + " of image " +
                          std::to_string(row) + " is not 1 to 1000");
    }
    batches_.push_back(data);
    return whole - 1;
  }

  fs::path root_;
  std::string split_;
  bool published_;
  std::vector<std::string> names_;
  std::vector<at::Tensor> batches_;
  at::Tensor labels_;
};

}  // namespace

DKDM_DATASET("imagenet32", "1", "ImageNet's 1,281,167 images at 32 x 32 RGB, 1000 classes",
             ImageNet32)
