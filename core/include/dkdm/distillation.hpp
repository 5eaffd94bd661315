// What distillation methods share: the batch set, on which the teacher walks while the student learns
// (paper Algorithm 1), and the loss of Eq. 19-21.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>

#include "dkdm/batch_set.hpp"
#include "dkdm/method.hpp"
#include "dkdm/params.hpp"

namespace dkdm {

// A distillation method: the subclass says how large the set is, how it begins and what is drawn.
class DKDM_API Distillation : public Method {
 public:
  explicit Distillation(const Params& params);
  ~Distillation() override;
  static ParamTable chain_params();        // chain, lambda, student_clip, teacher_clip, t0_term
  static ParamTable preparation_params();  // prepare, teacher_batch, first_states

  Needs needs() const final;
  void prepare(const MethodContext& context, const std::filesystem::path& dir) final;
  // On average: T'/2 a row.
  std::int64_t preparation_evaluations(const DiffusionConfig& diffusion,
                                       std::int64_t batch) const final;
  void start(const MethodContext& context, const std::filesystem::path& prepared) final;
  const GaussianDiffusion& diffusion() const final;
  TrainBatch next(std::int64_t step) final;
  LossTerms loss(const TrainBatch& batch, const at::Tensor& output) const final;
  // Since `start`.
  std::int64_t teacher_evaluations() const final;
  TensorMap state() const final { return set().state(); }
  void restore(const TensorMap& state) final { set().restore(state); }

 protected:
  // Rows of the whole set for a chain of T' steps.
  virtual std::int64_t set_size(std::int64_t chain_steps, std::int64_t batch) const;
  // Fills the empty set when nothing was prepared; called before the first batch.
  virtual void begin() = 0;
  // Distinct rows for training step `step`, int64 [batch].
  virtual at::Tensor draw(std::int64_t step) const = 0;

  // After `start`.
  BatchSet& set();
  const BatchSet& set() const;
  std::int64_t batch() const;
  std::uint64_t seed() const;
  // begin() for a set that starts with `batch` rows at random states.
  void begin_shuffled();
  // Random first states of one batch of rows: int64 [batch].
  at::Tensor first_states() const;

 private:
  struct Options;  // the parameters' values
  struct Walk;     // what `start` makes

  std::unique_ptr<const Options> options_;
  std::unique_ptr<Walk> walk_;
};

// `tables` one after another.
DKDM_API ParamTable joined(std::initializer_list<ParamTable> tables);

}  // namespace dkdm
