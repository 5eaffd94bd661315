// Iterative distillation (paper, section 3.3): one batch walks the teacher's chain from noise to
// images, the student learns at every step, then the batch starts again from fresh noise.
#include <ATen/ATen.h>

#include "dkdm/batch_set.hpp"
#include "dkdm/distillation.hpp"
#include "dkdm/plugin.hpp"

namespace {

class Iterative final : public dkdm::Distillation {
 public:
  Iterative(const dkdm::Params& params, dkdm::Host&) : Distillation(params) {}
  static dkdm::ParamTable params() { return chain_params(); }

 protected:
  void begin() override { set().fill_with_noise(batch()); }
  // The whole batch, so all rows share t: T'-1, …, 0, T'-1, …
  at::Tensor draw(std::int64_t) const override { return at::arange(batch(), at::kLong); }
};

}  // namespace

DKDM_DISTILLATION("iterative", "2", "student follows one batch down the teacher's chain", Iterative)
