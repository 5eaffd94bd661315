// Data-free training: a student trained on images sampled from the teacher (paper, section 4).
#include "dkdm/image_method.hpp"
#include "dkdm/plugin.hpp"

namespace {

class DataFree final : public dkdm::ImageMethod {
 public:
  DataFree(const dkdm::Params& params, dkdm::Host&) : ImageMethod(params) {}
  static dkdm::ParamTable params() { return ImageMethod::params(); }

  dkdm::Needs needs() const override { return {.synthetic = true}; }

 protected:
  std::vector<dkdm::ImageSource> sources(const dkdm::MethodContext& context) const override {
    return {dkdm::all_images(*context.synthetic)};
  }
};

}  // namespace

DKDM_BASELINE("data-free", "2", "trains on images sampled from the teacher", DataFree)
