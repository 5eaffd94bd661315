// my-plugin: a set of the teacher's states whose batches take turns, where `dynamic` draws rows at
// random: every row is denoised equally often. Teacher steps, targets and loss are those of every
// distillation method (dkdm/distillation.hpp).
#include <ATen/ops/arange.h>

#include "dkdm/boundary.hpp"
#include "dkdm/distillation.hpp"

namespace {

class MyPlugin final : public dkdm::Distillation {
 public:
  static dkdm::ParamTable params() {
    return dkdm::joined(
        {chain_params(),
         preparation_params(),
         {dkdm::integer("batches", 5, "size of the set, in batches").between(1, 10000)}});
  }

  MyPlugin(const dkdm::Params& params, dkdm::Host&)
      : Distillation(params), batches_(params.integer("batches")) {}

 protected:
  std::int64_t set_size(std::int64_t, std::int64_t batch) const override {
    return batches_ * batch;
  }
  void begin() override { begin_shuffled(); }
  std::int64_t begin_evaluations(std::int64_t chain_steps, std::int64_t batch) const override {
    return batch * chain_steps / 2;
  }
  // Of the rows there are: with prepare = "streaming" the set grows batch by batch.
  at::Tensor draw(std::int64_t step) const override {
    const std::int64_t first = step % (rows() / batch()) * batch();
    return at::arange(first, first + batch(), at::kLong);
  }

 private:
  std::int64_t batches_;
};

}  // namespace

DKDM_DISTILLATION("my-plugin", "1", "batches of the teacher's states take turns", MyPlugin)
