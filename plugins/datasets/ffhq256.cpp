// FFHQ at 256 pixels (Karras et al. 2019) as latent diffusion and the paper's Table 3 have it: the
// 60,000 train images of ffhqtrain.txt, PNG files of 1024 or 256 pixels.
#include "dkdm/plugin.hpp"
#include "listed_images.hpp"

namespace {

constexpr dkdm::datasets::PublishedList kList{
    .plugin = "ffhq256",
    .folder = "ffhq",
    .file = "ffhqtrain.txt",
    .sha256 = "a6553043bba837acbe540fd1e1703e1974823cd5a31d7489a9e0c8b783b6a5ec",
    .images = 60'000,
    .example = "00000.png",
    .source = "images1024x1024 of NVlabs/ffhq-dataset, or a copy at 256 in one folder"};

class Ffhq256 final : public dkdm::datasets::ListedImages {
 public:
  static dkdm::ParamTable params() { return params_of(kList); }
  static void announce(const dkdm::Params& params, dkdm::Announced& announced) {
    announce_list(kList, params, announced);
  }
  Ffhq256(const dkdm::Params& params, dkdm::Host&) : ListedImages(kList, params) {}
};

}  // namespace

DKDM_DATASET("ffhq256", "1", "FFHQ's 60,000 train images at 256 x 256, RGB", Ffhq256)
