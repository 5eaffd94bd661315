// my-plugin: trains on a few real images and nothing else, to ask how many a teacher is worth. Loss
// and minibatches are those of every baseline (dkdm/image_method.hpp).
#include <ATen/ops/arange.h>

#include <algorithm>

#include "dkdm/boundary.hpp"
#include "dkdm/image_method.hpp"

namespace {

class MyPlugin final : public dkdm::ImageMethod {
 public:
  static dkdm::ParamTable params() {
    dkdm::ParamTable table = ImageMethod::params();
    table.push_back(
        dkdm::integer("count", 1000, "real images, the dataset's first").between(1, 1e8));
    return table;
  }

  MyPlugin(const dkdm::Params& params, dkdm::Host&)
      : ImageMethod(params), count_(params.integer("count")) {}

  dkdm::Needs needs() const override { return {.dataset = true}; }

 protected:
  std::vector<dkdm::ImageSource> sources(const dkdm::MethodContext& context) const override {
    const std::int64_t count = std::min(count_, context.dataset->size());
    return {{context.dataset, at::arange(count, at::kLong)}};
  }

 private:
  std::int64_t count_;
};

}  // namespace

DKDM_BASELINE("my-plugin", "1", "trains on a few real images", MyPlugin)
