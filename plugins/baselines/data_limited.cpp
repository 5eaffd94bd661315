// Data-limited training: the teacher's images, a fraction of them replaced by real ones so that the
// total stays (paper, section 4; the authors' datasets/mix.py, of the latent experiments
// data/celebahq_mix.py and ffhq_mix.py).
#include "dkdm/image_method.hpp"
#include "dkdm/plugin.hpp"
#include "dkdm/training_data.hpp"

namespace {

class DataLimited final : public dkdm::ImageMethod {
 public:
  DataLimited(const dkdm::Params& params, dkdm::Host&)
      : ImageMethod(params), fraction_(params.real("fraction")),
        draw_(params.text("draw") == "python" ? dkdm::Draw::python : dkdm::Draw::numpy) {}

  static dkdm::ParamTable params() {
    dkdm::ParamTable table = ImageMethod::params();
    table.push_back(
        dkdm::real("fraction", 0.2, "share of the training images that are real").between(0, 1));
    table.push_back(dkdm::text("draw", "numpy",
                               "whose generator chooses the images: numpy's (the authors' pixel "
                               "experiments) or python's (their latent ones)")
                        .one_of({"numpy", "python"})
                        .added());
    return table;
  }

  dkdm::Needs needs() const override { return {.dataset = true, .synthetic = true}; }

 protected:
  std::vector<dkdm::ImageSource> sources(const dkdm::MethodContext& context) const override {
    const dkdm::Mixture mixture = dkdm::reference_mixture(
        context.dataset->size(), context.synthetic->size(), fraction_, draw_);
    return {{context.dataset, mixture.real}, {context.synthetic, mixture.synthetic}};
  }

 private:
  double fraction_;
  dkdm::Draw draw_;
};

}  // namespace

DKDM_BASELINE("data-limited", "2",
              "trains on the teacher's images with a fraction of real ones mixed in", DataLimited)
