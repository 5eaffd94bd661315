// Images of an npz as ADM's sampler and the reference sets hold them: uint8 [N,H,W,C] under
// `images`, class labels [N] where the file has them.
#include "dkdm/announced.hpp"
#include "dkdm/files.hpp"
#include "dkdm/io.hpp"
#include "dkdm/npz_labels.hpp"
#include "dkdm/plugin.hpp"
#include "in_memory.hpp"

namespace {

using dkdm::DataError;
using dkdm::Host;
using dkdm::Params;

class Npz final : public dkdm::datasets::InMemory {
 public:
  static dkdm::ParamTable params() {
    return {dkdm::text("file", "", "the npz").required(),
            dkdm::text("images", "arr_0", "array of the images, uint8 [N,H,W,C]"),
            dkdm::text(
                "labels", "",
                "array of the labels, integers [N]; empty = arr_1 or labels, where it is there")};
  }

  static void announce(const Params& params, dkdm::Announced& announced) {
    if (const std::filesystem::path file = params.text("file"); !std::filesystem::exists(file))
      announced.absent.push_back({file, "No such file; `file` names an npz of images"});
  }

  Npz(const Params& params, Host&)
      : file_(params.text("file")),
        keys_("npz 2 " + params.text("images") + " " + params.text("labels") + " ") {
    const at::Tensor images = dkdm::io::map_npz(file_, params.text("images"));
    if (images.scalar_type() != at::kByte || images.dim() != 4 || images.numel() == 0 ||
        (images.size(3) != 1 && images.size(3) != 3)) {
      std::string shape;
      for (const std::int64_t side : images.sizes()) shape += " " + std::to_string(side);
      throw DataError(file_.string() + ": '" + params.text("images") + "'",
                      "expected images, uint8 [N,H,W,1 or 3], found " +
                          std::string(c10::toString(images.scalar_type())) + " of" + shape);
    }
    const auto labels = dkdm::io::read_npz_labels(file_, params.text("labels"), images.size(0));
    hold(images.permute({0, 3, 1, 2}), labels.values, images.size(3), labels.classes);
  }

  std::string fingerprint() const override {
    return dkdm::io::sha256(keys_ + dkdm::io::sha256_file(file_));
  }

 private:
  std::filesystem::path file_;
  std::string keys_;
};

}  // namespace

DKDM_DATASET("npz", "2", "images (and labels) of a numpy npz file", Npz)
