// Shuffled iterative distillation (paper, section 3.3): as iterative, but the rows of the batch are
// at random steps of the chain, so that a batch covers all noise levels.
//
// upfront: each row is denoised to a random state before training.
// streaming: nothing is prepared; all rows begin as noise and each row's first pass stops at a
// random state, so rows fall out of step during the first T' training steps. Those steps see mostly
// noisy states; no teacher evaluation is spent without a student learning from it.
#include <ATen/ATen.h>

#include "dkdm/batch_set.hpp"
#include "dkdm/distillation.hpp"
#include "dkdm/plugin.hpp"

namespace {

class Shuffled final : public dkdm::Distillation {
 public:
  Shuffled(const dkdm::Params& params, dkdm::Host&) : Distillation(params) {}
  static dkdm::ParamTable params() { return dkdm::joined({chain_params(), preparation_params()}); }

 protected:
  void begin() override { set().fill_with_noise(batch(), first_states()); }
  at::Tensor draw(std::int64_t) const override { return at::arange(batch(), at::kLong); }
};

}  // namespace

DKDM_DISTILLATION("shuffled", "2", "iterative with the batch spread over all steps of the chain",
                  Shuffled)
