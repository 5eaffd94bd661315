// Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017): 60,000 training and 10,000 test images of
// clothes, 28 x 28, grey, ten classes, from the IDX files of Debian's package, gzip or unpacked.
//
// Sizes: 28 as it is; 32 = two zero pixels on each side; 16 = the mean of each 2 x 2 block of the
// 32, rounded half up. Three channels repeat the one.
#include "dkdm/announced.hpp"
#include "dkdm/files.hpp"
#include "dkdm/io.hpp"
#include "dkdm/plugin.hpp"
#include "in_memory.hpp"

namespace {

namespace fs = std::filesystem;
using dkdm::DataError;
using dkdm::Host;
using dkdm::Params;

constexpr std::int64_t kSide = 28, kPadding = 2, kClasses = 10;
constexpr std::int64_t kTraining = 60'000, kTest = 10'000;  // images, as published
const char* const kRemedy =
    "absent; install it with `apt-get install dataset-fashion-mnist`, or let `root` name a folder "
    "of Fashion-MNIST's four IDX files";

// uint8 [N,28,28] -> [N,1,16,16].
at::Tensor halve_padded(const at::Tensor& images) {
  constexpr std::int64_t half = (kSide + 2 * kPadding) / 2;
  at::Tensor small = at::zeros({images.size(0), 1, half, half}, at::kByte);
  const auto* in = images.const_data_ptr<std::uint8_t>();
  auto* out = small.mutable_data_ptr<std::uint8_t>();
  for (std::int64_t n = 0; n < images.size(0); ++n, in += kSide * kSide, out += half * half) {
    // The padding is one block wide: the outermost blocks stay zero.
    for (std::int64_t y = 0; y < half - 2; ++y) {
      for (std::int64_t x = 0; x < half - 2; ++x) {
        const std::uint8_t* block = in + 2 * y * kSide + 2 * x;
        const int sum = block[0] + block[1] + block[kSide] + block[kSide + 1];
        out[(y + 1) * half + x + 1] = static_cast<std::uint8_t>((sum + 2) / 4);
      }
    }
  }
  return small;
}

class FashionMnist final : public dkdm::datasets::InMemory {
 public:
  static dkdm::ParamTable params() {
    return {dkdm::text("root", "/usr/share/datasets/fashion-mnist",
                       "folder of the four IDX files (Debian: dataset-fashion-mnist)"),
            dkdm::text("split", "train", "which images").one_of({"train", "test"}),
            dkdm::integer("size", 16, "side in pixels: 16, 28 or 32").between(16, 32),
            dkdm::integer("channels", 1, "1, or 3 equal ones").between(1, 3)};
  }

  static void announce(const Params& params, dkdm::Announced& announced) {
    const fs::path root = params.text("root");
    for (const std::string& name : names_of(params))
      if (!found(root, name)) announced.absent.push_back({root / (name + ".gz"), kRemedy});
    if (announced.absent.empty()) return;  // the files may be of a trial, with fewer images
    announced.spec = dkdm::ImageSpec::square(params.integer("channels"), params.integer("size"));
    announced.images = params.text("split") == "train" ? kTraining : kTest;
  }

  FashionMnist(const Params& params, Host&)
      : root_(params.text("root")),
        recipe_("fashion-mnist 1 size " + std::to_string(params.integer("size")) + " channels " +
                std::to_string(params.integer("channels"))) {
    const std::int64_t size = params.integer("size"), channels = params.integer("channels");
    if (size != 16 && size != 28 && size != 32) {
      throw dkdm::ConfigError("fashion-mnist: size " + std::to_string(size) +
                              " is not 16, 28 or 32");
    }
    if (channels == 2) throw dkdm::ConfigError("fashion-mnist: channels 2 is not 1 or 3");
    image_file_ = find(names_of(params)[0]);
    label_file_ = find(names_of(params)[1]);

    const at::Tensor images = dkdm::io::read_idx(image_file_);
    const at::Tensor labels = dkdm::io::read_idx(label_file_);
    check(images, labels);
    at::Tensor sized = images.unsqueeze(1);
    if (size == 32) sized = at::constant_pad_nd(sized, {kPadding, kPadding, kPadding, kPadding}, 0);
    if (size == 16) sized = halve_padded(images);
    hold(sized, labels, channels, kClasses);
  }

  std::string fingerprint() const override {
    return dkdm::io::sha256(recipe_ + dkdm::io::sha256_file(image_file_) +
                            dkdm::io::sha256_file(label_file_));
  }

 private:
  // Of the images, and of their labels.
  static std::vector<std::string> names_of(const Params& params) {
    const std::string split = params.text("split") == "train" ? "train" : "t10k";
    return {split + "-images-idx3-ubyte", split + "-labels-idx1-ubyte"};
  }

  static std::optional<fs::path> found(const fs::path& root, const std::string& name) {
    for (const auto& file : {root / (name + ".gz"), root / name})
      if (fs::exists(file)) return file;
    return std::nullopt;
  }

  fs::path find(const std::string& name) const {
    if (const auto file = found(root_, name)) return *file;
    throw DataError((root_ / (name + ".gz")).string(), kRemedy);
  }

  void check(const at::Tensor& images, const at::Tensor& labels) const {
    if (images.dim() != 3 || images.size(0) == 0 || images.size(1) != kSide ||
        images.size(2) != kSide) {
      throw DataError(image_file_.string() + ": byte 4", "its images are not 28 x 28");
    }
    if (labels.dim() != 1 || labels.size(0) != images.size(0)) {
      throw DataError(label_file_.string() + ": byte 4",
                      std::to_string(labels.numel()) + " labels for " +
                          std::to_string(images.size(0)) + " images");
    }
    if (labels.max().item<std::int64_t>() >= kClasses) {
      const auto first = (labels >= kClasses).nonzero()[0].item<std::int64_t>();
      throw DataError(
          label_file_.string() + ": byte " + std::to_string(8 + first),
          "label " + std::to_string(labels[first].item<std::int64_t>()) + " is not 0 to 9");
    }
  }

  fs::path root_, image_file_, label_file_;
  std::string recipe_;
};

}  // namespace

DKDM_DATASET("fashion-mnist", "1", "clothes, 28 x 28 grey, ten classes (Debian package)",
             FashionMnist)
