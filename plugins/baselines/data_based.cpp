// Data-based training: a student trained on the real images, as if there were no teacher.
#include "dkdm/image_method.hpp"
#include "dkdm/plugin.hpp"

namespace {

class DataBased final : public dkdm::ImageMethod {
 public:
  DataBased(const dkdm::Params& params, dkdm::Host&) : ImageMethod(params) {}
  static dkdm::ParamTable params() { return ImageMethod::params(); }

  dkdm::Needs needs() const override { return {.dataset = true}; }

 protected:
  std::vector<dkdm::ImageSource> sources(const dkdm::MethodContext& context) const override {
    return {dkdm::all_images(*context.dataset)};
  }
};

}  // namespace

DKDM_BASELINE("data-based", "2", "trains on the real images", DataBased)
