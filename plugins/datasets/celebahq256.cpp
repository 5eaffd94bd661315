// CelebA-HQ at 256 pixels (Karras et al. 2018) as latent diffusion and the paper's Table 3 have it:
// the 25,000 train images of celebahqtrain.txt, arrays of numpy of 1024 or 256 pixels.
#include "dkdm/plugin.hpp"
#include "listed_images.hpp"

namespace {

constexpr dkdm::datasets::PublishedList kList{
    .plugin = "celebahq256",
    .folder = "celebahq",
    .file = "celebahqtrain.txt",
    .sha256 = "e3e2b0997c0128da4c94950665e0cc84b3e07774631a552c5968436db10b7067",
    .images = 25'000,
    .example = "imgHQ00000.npy",
    .source = "CelebA-HQ of tkarras/progressive_growing_of_gans, uint8 [1,3,H,W] a file"};

class CelebaHq256 final : public dkdm::datasets::ListedImages {
 public:
  static dkdm::ParamTable params() { return params_of(kList); }
  static void announce(const dkdm::Params& params, dkdm::Announced& announced) {
    announce_list(kList, params, announced);
  }
  CelebaHq256(const dkdm::Params& params, dkdm::Host&) : ListedImages(kList, params) {}
};

}  // namespace

DKDM_DATASET("celebahq256", "1", "CelebA-HQ's 25,000 train images at 256 x 256, RGB", CelebaHq256)
