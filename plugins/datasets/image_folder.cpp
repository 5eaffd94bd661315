// Images of a folder and its subfolders (dkdm/image_files.hpp says which files), in the order and
// with the resize of ADM's loader (image_datasets.py): names sorted within each folder; halved by a
// box filter while the shorter side is at least 2S, then bicubic to a shorter side of S, then the
// centre square. Files are decoded when asked for, so a folder larger than memory works.
#include <ATen/ATen.h>
#include <sys/stat.h>

#include <cmath>
#include <set>

#include "dkdm/announced.hpp"
#include "dkdm/files.hpp"
#include "dkdm/image_files.hpp"
#include "dkdm/io.hpp"
#include "dkdm/plugin.hpp"
#include "image_files.hpp"

namespace {

namespace fs = std::filesystem;
using dkdm::DataError;
using dkdm::Host;
using dkdm::Params;

struct Filter {
  double support;  // half the width, in source pixels at equal size
  double (*weight)(double x);
};

double box_weight(double x) { return x > -0.5 && x <= 0.5 ? 1 : 0; }

// Keys' cubic with a = -1/2.
double bicubic_weight(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

// uint8 [C,H,W] -> [C,H,width], antialiased, as Pillow computes it: weights normalised in float64,
// applied in fixed point of 22 bits, rounded and clamped to a byte.
at::Tensor resize_width(const at::Tensor& image, std::int64_t width, const Filter& filter) {
  const std::int64_t source = image.size(2), rows = image.size(0) * image.size(1);
  if (width == source) return image;
  constexpr int bits = 22;
  const double step = static_cast<double>(source) / static_cast<double>(width);
  const double stretch = std::max(step, 1.0), support = filter.support * stretch;
  const double shrink = 1 / stretch;
  at::Tensor resized = at::empty({image.size(0), image.size(1), width}, at::kByte);
  const auto* in = image.const_data_ptr<std::uint8_t>();
  auto* out = resized.mutable_data_ptr<std::uint8_t>();
  for (std::int64_t x = 0; x < width; ++x) {
    const double centre = (static_cast<double>(x) + 0.5) * step;
    const auto first = std::max<std::int64_t>(static_cast<std::int64_t>(centre - support + 0.5), 0);
    const auto last = std::min(static_cast<std::int64_t>(centre + support + 0.5), source);
    std::vector<double> weights;
    double sum = 0;
    for (std::int64_t i = first; i < last; ++i) {
      weights.push_back(filter.weight((static_cast<double>(i) - centre + 0.5) * shrink));
      sum += weights.back();
    }
    std::vector<int> fixed;
    for (const double weight : weights) {
      fixed.push_back(static_cast<int>(std::round(weight / sum * (1 << bits))));
    }
    for (std::int64_t row = 0; row < rows; ++row) {
      int value = 1 << (bits - 1);
      for (std::size_t i = 0; i < fixed.size(); ++i) {
        value += fixed[i] * in[row * source + first + static_cast<std::int64_t>(i)];
      }
      out[row * width + x] = static_cast<std::uint8_t>(std::clamp(value >> bits, 0, 255));
    }
  }
  return resized;
}

at::Tensor resize(const at::Tensor& image, std::int64_t height, std::int64_t width,
                  const Filter& filter) {
  const at::Tensor narrow = resize_width(image, width, filter).transpose(1, 2).contiguous();
  return resize_width(narrow, height, filter).transpose(1, 2).contiguous();
}

at::Tensor centre_crop(at::Tensor image, std::int64_t size) {
  const auto shorter = [&] { return std::min(image.size(1), image.size(2)); };
  while (shorter() >= 2 * size) {
    image = resize(image, image.size(1) / 2, image.size(2) / 2, {0.5, box_weight});
  }
  const double scale = static_cast<double>(size) / static_cast<double>(shorter());
  // Python's round() goes to the even neighbour at a half; so does nearbyint.
  const auto scaled = [&](std::int64_t side) {
    return static_cast<std::int64_t>(std::nearbyint(static_cast<double>(side) * scale));
  };
  image = resize(image, scaled(image.size(1)), scaled(image.size(2)), {2, bicubic_weight});
  return image.narrow(1, (image.size(1) - size) / 2, size)
      .narrow(2, (image.size(2) - size) / 2, size);
}

class ImageFolder final : public dkdm::Dataset {
 public:
  static dkdm::ParamTable params() {
    return {
        dkdm::text("root", "", "the folder").required(),
        dkdm::integer(
            "size", 32,
            "side in pixels; 0 = the shorter one of the first image, or, with exact, both of its sides")
            .between(0, 4096),
        dkdm::integer("channels", 3, "1 or 3").between(1, 3),
        dkdm::flag("exact", false, "refuse images of another size instead of resizing them"),
        dkdm::text(
            "labels", "auto",
            "where classes come from: folders = the first folder below `root`; names = the file's "
            "name up to \"_\"; none; auto = folders where all images lie in two or more, else "
            "names where all have a \"_\"")
            .one_of({"auto", "folders", "names", "none"})};
  }

  static void announce(const Params& params, dkdm::Announced& announced) {
    if (const fs::path root = params.text("root"); !fs::exists(root))
      announced.absent.push_back({root, "no such folder; `root` names the folder of the images"});
    if (const auto size = params.integer("size"); size > 0)
      announced.spec = dkdm::ImageSpec::square(params.integer("channels"), size);
  }

  ImageFolder(const Params& params, Host& host)
      : root_(params.text("root")),
        spec_(dkdm::ImageSpec::square(params.integer("channels"), params.integer("size"))),
        exact_(params.flag("exact")) {
    auto found = dkdm::io::find_image_files(root_);
    for (const auto& remark : found.remarks)
      host.log("image-folder", root_.string() + ": " + remark);
    files_ = std::move(found.files);
    if (spec_.channels == 2) throw dkdm::ConfigError("image-folder: channels 2 is not 1 or 3");
    if (spec_.height == 0) {
      const at::Tensor first = dkdm::io::read_image(root_ / files_.front(), spec_.channels);
      spec_ = {spec_.channels, first.size(1), first.size(2)};
      if (!exact_) spec_ = dkdm::ImageSpec::square(spec_.channels, spec_.shorter_side());
    }
    find_labels(params.text("labels"));
  }

  dkdm::ImageSpec spec() const override { return spec_; }
  std::int64_t size() const override { return static_cast<std::int64_t>(files_.size()); }
  std::int64_t num_classes() const override { return classes_; }

  at::Tensor images(const at::Tensor& index) const override {
    return dkdm::datasets::decoded(index, spec_, [this](std::int64_t i) {
      const fs::path& file = files_.at(static_cast<std::size_t>(i));
      return fitted(dkdm::io::read_image(root_ / file, spec_.channels), file);
    });
  }

  at::Tensor labels(const at::Tensor& index) const override {
    return labels_.defined() ? labels_.index_select(0, index) : at::Tensor();
  }

  // Names, sizes and modification times: reading 200,000 files would not be cheap.
  std::string fingerprint() const override {
    const std::string height = std::to_string(spec_.height), width = std::to_string(spec_.width);
    std::string text = "image-folder 2 " + (height == width ? height : height + "x" + width) + " " +
                       std::to_string(spec_.channels) + " labels by " + labelled_by_ + "\n";
    for (const fs::path& file : files_) {
      struct stat status{};
      if (::stat((root_ / file).c_str(), &status) != 0) {
        throw DataError((root_ / file).string(), "has gone since the folder was listed");
      }
      text += file.string() + '\0' + std::to_string(status.st_size) + " " +
              std::to_string(status.st_mtim.tv_sec) + "." + std::to_string(status.st_mtim.tv_nsec) +
              "\n";
    }
    return dkdm::io::sha256(text);
  }

 private:
  at::Tensor fitted(const at::Tensor& image, const fs::path& file) const {
    if (!exact_) return centre_crop(image, spec_.height);
    if (image.size(1) != spec_.height || image.size(2) != spec_.width) {
      throw DataError((root_ / file).string(), "is of " + std::to_string(image.size(2)) + " x " +
                                                   std::to_string(image.size(1)) +
                                                   " pixels where " + std::to_string(spec_.width) +
                                                   " x " + std::to_string(spec_.height) +
                                                   " are expected");
    }
    return image;
  }

  // The first folder below the root (torchvision's rule), or the file's name up to its first "_"
  // (ADM's and the authors' `<class>_<index>.png`). "" where the file has none.
  static std::string class_by(const std::string& rule, const fs::path& file) {
    const auto first = *file.begin();
    if (rule == "folders") return first == file ? "" : first.string();
    const std::string name = file.filename().string();
    return name.find('_') == std::string::npos ? "" : name.substr(0, name.find('_'));
  }

  // Classes are numbered in sorted order.
  void find_labels(const std::string& asked) {
    if (asked == "none") return;
    for (const std::string rule : {"folders", "names"}) {
      if (asked != "auto" && asked != rule) continue;
      std::vector<std::string> names;
      for (const fs::path& file : files_) names.push_back(class_by(rule, file));
      const std::set<std::string> classes(names.begin(), names.end());
      const auto without = std::find(names.begin(), names.end(), "");
      if (asked == "auto" && (without != names.end() || (rule == "folders" && classes.size() < 2)))
        continue;
      if (without != names.end())
        throw DataError((root_ / files_[std::size_t(without - names.begin())]).string(),
                        rule == "folders" ? "lies in no folder below the root, so it has no class"
                                          : "has no \"_\" in its name, so it has no class");
      std::vector<std::int64_t> labels;
      for (const std::string& name : names)
        labels.push_back(std::distance(classes.begin(), classes.find(name)));
      labels_ = at::tensor(labels, at::kLong);
      classes_ = static_cast<std::int64_t>(classes.size());
      labelled_by_ = rule;
      return;
    }
  }

  fs::path root_;
  dkdm::ImageSpec spec_;
  std::vector<fs::path> files_;
  bool exact_;
  std::string labelled_by_ = "none";
  at::Tensor labels_;
  std::int64_t classes_ = 0;
};

}  // namespace

DKDM_DATASET("image-folder", "2",
             "PNG, JPEG, WebP and GIF files, resized and cropped as ADM's loader does", ImageFolder)
