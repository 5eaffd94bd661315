// Datasets that are a list of file names and a folder: faces at 256 pixels as latent diffusion has
// them (Rombach et al. 2022; lists of Esser et al. 2021, taming-transformers). Order: by name, as
// the authors' scripts for mixtures and references sort them. Pixels: albumentations 0.4.3's
// SmallestMaxSize(256), OpenCV's bilinear, then the centre. Files are decoded when asked for.
#pragma once

#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "bilinear.hpp"
#include "dkdm/announced.hpp"
#include "dkdm/dataset.hpp"
#include "dkdm/files.hpp"
#include "dkdm/io.hpp"
#include "dkdm/npy_file.hpp"
#include "dkdm/params.hpp"
#include "image_files.hpp"

namespace dkdm::datasets {

// A published list, and what is said of it.
struct PublishedList {
  const char* plugin;  // its name
  const char* folder;  // of the images, in $DKDM_DATA
  const char* file;    // the list, beside that folder
  const char* sha256;
  std::int64_t images;
  const char* example;  // of a name
  const char* source;   // where the images are from
};

class ListedImages : public Dataset {
 public:
  static ParamTable params_of(const PublishedList& list) {
    const std::string folder = list.folder, file = list.file;
    return {
        text("root", "", "folder of the images (empty = " + folder + " in $DKDM_DATA)"),
        text("file", "", "list of names, one a line (empty = " + file + " beside the folder)"),
        flag("own_list", false,
             "accept any list; otherwise its SHA-256 must be the published one's"),
        text("suffix", "",
             "ending of the files in place of the list's, as \".png\" (empty = as in the list)")};
  }

  static void announce_list(const PublishedList& list, const Params& params, Announced& announced) {
    const auto root = data_folder(params.text("root"), list.folder);
    for (const auto& path : {root, list_file(list, params)})
      if (!std::filesystem::exists(path))
        announced.absent.push_back({path, std::string("absent; ") + remedy(list)});
    announced.spec = ImageSpec::square(3, kSide);
    announced.images = params.flag("own_list") ? 0 : list.images;
  }

  ListedImages(const PublishedList& list, const Params& params)
      : list_(list), root_(data_folder(params.text("root"), list.folder)),
        suffix_(params.text("suffix")) {
    read_list(list_file(list, params), params.flag("own_list"));
    find_files();
  }

  ImageSpec spec() const final { return ImageSpec::square(3, kSide); }
  std::int64_t size() const final { return static_cast<std::int64_t>(names_.size()); }

  at::Tensor images(const at::Tensor& index) const final {
    return decoded(index, spec(), [this](std::int64_t i) {
      const auto file = path_of(names_.at(static_cast<std::size_t>(i)));
      return fitted(file.extension() == ".npy" ? read_array(file) : io::read_image(file, 3), file);
    });
  }

  // Names and sizes: not the times, so that it is the same on another machine, and not the pixels.
  std::string fingerprint() const final {
    std::string text = std::string(list_.plugin) + " 1\n";
    for (const std::string& name : names_) {
      const auto file = path_of(name);
      struct stat status{};
      if (::stat(file.c_str(), &status) != 0)
        throw DataError(file.string(), "has gone since the list was read");
      text += name + suffix_ + " " + std::to_string(status.st_size) + "\n";
    }
    return io::sha256(text);
  }

 private:
  static constexpr std::int64_t kSide = 256;

  static std::string remedy(const PublishedList& list) {
    return std::string("put ") + list.file +
           " (data/ of CompVis/taming-transformers) beside the folder " + list.folder +
           " of its files, " + list.example + " and so on (" + list.source +
           "), and set `root` to that folder, or $DKDM_DATA to its parent";
  }

  static std::filesystem::path list_file(const PublishedList& list, const Params& params) {
    if (const std::string& file = params.text("file"); !file.empty()) return file;
    const auto root = std::filesystem::absolute(data_folder(params.text("root"), list.folder));
    return (root.has_filename() ? root : root.parent_path()).parent_path() / list.file;
  }

  std::filesystem::path path_of(const std::string& name) const {
    std::filesystem::path path = root_ / name;
    if (!suffix_.empty()) path.replace_extension(suffix_);
    return path;
  }

  void read_list(const std::filesystem::path& file, bool own) {
    if (!std::filesystem::exists(file)) throw DataError(file.string(), "absent; " + remedy(list_));
    const std::string text = io::read_text(file);
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = std::min(text.find('\n', begin), text.size());
      const std::string name = stripped(text.substr(begin, end - begin));
      if (!name.empty()) names_.push_back(name);
      begin = end + 1;
    }
    if (!own && io::sha256(text) != list_.sha256)
      throw DataError(file.string(), "holds " + std::to_string(names_.size()) +
                                         " names and is not the published " + list_.file + " of " +
                                         std::to_string(list_.images) + " (SHA-256 " +
                                         std::string(list_.sha256).substr(0, 16) +
                                         "…); own_list = true accepts another list");
    if (names_.empty()) throw DataError(file.string(), "holds no name, expected one a line");
    std::sort(names_.begin(), names_.end());
    std::vector<std::string> twice, outside;
    for (std::size_t i = 0; i < names_.size(); ++i) {
      const bool repeated = i > 0 && names_[i] == names_[i - 1];
      if (repeated && (twice.empty() || twice.back() != names_[i])) twice.push_back(names_[i]);
      const std::filesystem::path path = names_[i];
      if (path.is_absolute() || std::find(path.begin(), path.end(), "..") != path.end())
        outside.push_back(names_[i]);
    }
    if (!twice.empty())
      throw DataError(file.string(), "holds " + first_ten(twice, "name") + " twice");
    if (!outside.empty())
      throw DataError(file.string(),
                      "holds " + first_ten(outside, "name") + " outside of the images' folder");
  }

  static std::string stripped(const std::string& line) {
    constexpr const char* kBlank = " \t\r\f\v";
    const std::size_t first = line.find_first_not_of(kBlank);
    if (first == std::string::npos) return "";
    return line.substr(first, line.find_last_not_of(kBlank) - first + 1);
  }

  void find_files() const {
    if (!std::filesystem::is_directory(root_))
      throw DataError(root_.string(), "no such folder; " + remedy(list_));
    std::vector<std::string> missing;
    std::error_code absent;
    for (const std::string& name : names_)
      if (!std::filesystem::exists(path_of(name), absent))
        missing.push_back(path_of(name).lexically_relative(root_).string());
    if (!missing.empty())
      throw DataError(root_.string(),
                      first_ten(missing, "file") + " missing of " + std::to_string(names_.size()) +
                          (suffix_.empty() ? "; `suffix` says what files end in where that is not "
                                             "what the list says"
                                           : ""));
  }

  // uint8 [1,3,H,W], as numpy.save writes it of taming-transformers' CelebA-HQ.
  static at::Tensor read_array(const std::filesystem::path& file) {
    const at::Tensor array = io::read_npy(file);
    if (array.scalar_type() != at::kByte || array.dim() != 4 || array.size(0) != 1 ||
        array.size(1) != 3)
      throw DataError(file.string(), "expected an image, uint8 [1,3,H,W], found " +
                                         std::string(c10::toString(array.scalar_type())) + " of " +
                                         c10::str(array.sizes()));
    return array[0];
  }

  // The shorter side is 256 then, the longer one rounded, halves to even.
  static at::Tensor fitted(at::Tensor image, const std::filesystem::path& file) {
    const std::int64_t shorter = std::min(image.size(1), image.size(2));
    if (shorter < kSide)
      throw DataError(file.string(), "is of " + std::to_string(image.size(2)) + " x " +
                                         std::to_string(image.size(1)) +
                                         " pixels, expected at least 256 each way");
    const double scale = static_cast<double>(kSide) / static_cast<double>(shorter);
    const auto scaled = [&](std::int64_t side) {
      return static_cast<std::int64_t>(std::nearbyint(static_cast<double>(side) * scale));
    };
    if (shorter > kSide)
      image = resize_bilinear(image, scaled(image.size(1)), scaled(image.size(2)));
    return image.narrow(1, (image.size(1) - kSide) / 2, kSide)
        .narrow(2, (image.size(2) - kSide) / 2, kSide);
  }

  const PublishedList& list_;
  std::filesystem::path root_;
  std::string suffix_;
  std::vector<std::string> names_;  // as in the list, sorted
};

}  // namespace dkdm::datasets
