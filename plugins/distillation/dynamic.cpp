// Dynamic iterative distillation (paper, Algorithm 1): a batch set of rho T' batches at random
// states; every step draws a batch of it, trains on it and puts the denoised rows back.
//
// upfront: the whole set is denoised to random states before training (line 1), about T'/2 teacher
// evaluations a row.
// streaming: only one batch is; the set grows to its size as the denoised rows of the first
// (n - batch) / batch steps are added while their origins stay, to be denoised again with other
// noise. No teacher evaluation beyond that first batch is spent without a student learning from it,
// but early rows share the noisy beginning of their chains with others.
#include "dkdm/distillation.hpp"
#include "dkdm/plugin.hpp"
#include "dkdm/random.hpp"

namespace {

class Dynamic final : public dkdm::Distillation {
 public:
  Dynamic(const dkdm::Params& params, dkdm::Host&)
      : Distillation(params), rho_(params.real("rho")) {}

  static dkdm::ParamTable params() {
    return dkdm::joined({chain_params(),
                         preparation_params(),
                         {dkdm::real("rho", 0.4,
                                     "size of the batch set: rho times the steps of the chain, "
                                     "rounded, in batches (at least one)")
                              .between(0, 100)}});
  }

 protected:
  std::int64_t set_size(std::int64_t chain_steps, std::int64_t batch) const override {
    return rows_of(rho_, chain_steps, batch);
  }
  void begin() override { begin_shuffled(); }
  std::int64_t begin_evaluations(std::int64_t chain_steps, std::int64_t batch) const override {
    return batch * chain_steps / 2;
  }
  // Line 4: distinct within a batch, independent from step to step.
  at::Tensor draw(std::int64_t step) const override {
    return dkdm::Random(seed(), dkdm::Stream::pool_choice)
        .choice(static_cast<std::uint32_t>(step), rows(), batch());
  }

 private:
  double rho_;
};

}  // namespace

DKDM_DISTILLATION("dynamic", "2", "student learns from an enlarged set of the teacher's states",
                  Dynamic)
