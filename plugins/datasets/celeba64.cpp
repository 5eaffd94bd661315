// CelebA at 64 pixels (Liu et al., 2015) as the paper has it: all 202,599 "aligned and cropped"
// JPEGs of 178 x 218, squashed to 64 x 64 by OpenCV's bilinear resize, not cropped. Other work
// crops the centre first: its FIDs compare with none of this set. Files are decoded when asked for.
#include <sys/stat.h>

#include <charconv>

#include "bilinear.hpp"
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

constexpr std::int64_t kImages = 202'599, kSide = 64, kWidth = 178, kHeight = 218;
const char* const kFolder = "img_align_celeba";
const char* const kRemedy =
    "unpack img_align_celeba.zip (CelebA, \"Align&Cropped Images\", "
    "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html) and set `root` to that folder, or "
    "$DKDM_DATA to its parent";

class CelebA64 final : public dkdm::Dataset {
 public:
  static dkdm::ParamTable params() {
    return {
        dkdm::text("root", "", "folder of 000001.jpg … (empty = img_align_celeba in $DKDM_DATA)"),
        dkdm::integer("images", kImages, "how many there are: the first of them, for a trial")
            .between(1, kImages)};
  }

  static void announce(const Params& params, dkdm::Announced& announced) {
    const auto root = dkdm::datasets::data_folder(params.text("root"), kFolder);
    if (!fs::exists(root)) announced.absent.push_back({root, std::string("absent; ") + kRemedy});
    announced.spec = dkdm::ImageSpec::square(3, kSide);
    announced.images = params.integer("images");
  }

  CelebA64(const Params& params, Host&)
      : root_(dkdm::datasets::data_folder(params.text("root"), kFolder)),
        count_(params.integer("images")) {
    find_files();
  }

  dkdm::ImageSpec spec() const override { return dkdm::ImageSpec::square(3, kSide); }
  std::int64_t size() const override { return count_; }

  at::Tensor images(const at::Tensor& index) const override {
    return dkdm::datasets::decoded(index, spec(), [this](std::int64_t i) {
      const auto file = root_ / name_of(i);
      const at::Tensor image = dkdm::io::read_image(file, 3);
      if (image.size(1) != kHeight || image.size(2) != kWidth)
        throw DataError(file.string(), "is of " + std::to_string(image.size(2)) + " x " +
                                           std::to_string(image.size(1)) +
                                           " pixels, CelebA's aligned images are of 178 x 218");
      return dkdm::datasets::resize_bilinear(image, kSide, kSide);
    });
  }

  // Names and sizes: not the times, so that it is the same on another machine, and not the 1.4 GB.
  std::string fingerprint() const override {
    std::string text = "celeba64 1\n";
    for (std::int64_t i = 0; i < count_; ++i) {
      struct stat status{};
      if (::stat((root_ / name_of(i)).c_str(), &status) != 0)
        throw DataError((root_ / name_of(i)).string(), "has gone since the folder was listed");
      text += std::to_string(status.st_size) + "\n";
    }
    return dkdm::io::sha256(text);
  }

 private:
  static std::string name_of(std::int64_t image) {
    const std::string number = std::to_string(image + 1);
    return std::string(6 - number.size(), '0') + number + ".jpg";
  }

  // Index of the image that a file of this name is, -1 where it is none.
  static std::int64_t index_of(const std::string& name) {
    std::int64_t number = 0;
    std::from_chars(name.data(), name.data() + name.size(), number);
    return number >= 1 && number <= kImages && name == name_of(number - 1) ? number - 1 : -1;
  }

  // All are there and nothing else is: a folder where one is missing is not the set of the paper.
  void find_files() const {
    std::error_code error;
    fs::directory_iterator folder(root_, error);
    if (error)
      throw DataError(root_.string(), "cannot be listed (" + error.message() + "); " + kRemedy);
    std::vector<bool> found(static_cast<std::size_t>(kImages));
    std::vector<std::string> missing, others;
    for (const auto& entry : folder) {
      const std::string name = entry.path().filename().string();
      const std::int64_t index = index_of(name);
      if (index >= 0) found[static_cast<std::size_t>(index)] = true;
      else if (!name.starts_with(".")) others.push_back(name);
    }
    for (std::int64_t i = 0; i < count_; ++i)
      if (!found[static_cast<std::size_t>(i)]) missing.push_back(name_of(i));
    if (!missing.empty())
      throw DataError(
          root_.string(),
          dkdm::datasets::first_ten(missing, "file") + " missing of " + std::to_string(count_) +
              (fs::is_directory(root_ / kFolder) ? "; set `root` to its folder img_align_celeba"
                                                 : "; unpack img_align_celeba.zip again"));
    std::sort(others.begin(), others.end());
    if (!others.empty())
      throw DataError(root_.string(), dkdm::datasets::first_ten(others, "file") +
                                          " that CelebA does not have; move what is not its own");
  }

  fs::path root_;
  std::int64_t count_;
};

}  // namespace

DKDM_DATASET("celeba64", "1", "CelebA's 202,599 aligned faces squashed to 64 x 64, RGB", CelebA64)
