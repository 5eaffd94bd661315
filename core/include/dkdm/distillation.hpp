// What distillation methods share: the batch set, on which the teacher walks while the student
// learns (paper Algorithm 1), and the loss of Eq. 19-21.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>

#include "dkdm/method.hpp"
#include "dkdm/params.hpp"

namespace dkdm {

class BatchSet;  // dkdm/batch_set.hpp

// A distillation method: the subclass says how large the set is, how it begins and what is drawn;
// it may replace the loss, which then has batch.teacher, batch.x_prev and what else it asks for.
class DKDM_API Distillation : public Method {
 public:
  explicit Distillation(const Params& params);
  ~Distillation() override;
  static ParamTable chain_params();        // respacing, lambda, student_clip, teacher_clip, t0_term
  static ParamTable preparation_params();  // prepare, teacher_batch, first_states, prepared_rho

  Needs needs() const final;
  void prepare(const MethodContext& context, const std::filesystem::path& dir) final;
  std::string preparation_identity(const DiffusionConfig&, std::int64_t batch) const final;
  std::int64_t preparation_evaluations(const DiffusionConfig&, std::int64_t batch) const final;
  std::int64_t training_evaluations(const DiffusionConfig&, std::int64_t batch,
                                    std::int64_t steps) const final;
  double held_bytes(const DiffusionConfig&, const SampleShape&, std::int64_t batch) const override;
  // A subclass that makes something here (a trained part) calls this first.
  void start(const MethodContext& context, const std::filesystem::path& prepared) override;
  const GaussianDiffusion& diffusion() const final;
  TrainBatch next(std::int64_t step) final;
  // Eq. 19-21 with the parameters' switches.
  LossTerms loss(const TrainBatch& batch, const at::Tensor& output) const override;
  TensorMap state() const final;  // the set's
  void restore(const TensorMap& state) final;

 protected:
  // Rows of the whole set for a chain of T' steps: one batch, or what rows_of makes of a rho.
  virtual std::int64_t set_size(std::int64_t chain_steps, std::int64_t batch) const;
  static std::int64_t rows_of(double rho, std::int64_t chain_steps, std::int64_t batch);
  // Fills the empty set when nothing was prepared, before the first batch; its teacher forwards.
  virtual void begin() = 0;
  virtual std::int64_t begin_evaluations(std::int64_t chain_steps, std::int64_t batch) const;
  // Distinct rows for training step `step`, int64 [batch].
  virtual at::Tensor draw(std::int64_t step) const = 0;
  // Features of the teacher that `loss` reads in batch.teacher_features, known after `start`.
  virtual std::vector<std::string> teacher_features() const { return {}; }

  // After `start`.
  BatchSet& set() const;
  std::int64_t rows() const;  // in the set so far
  std::int64_t batch() const;
  std::uint64_t seed() const;
  // begin() for a set that starts with `batch` rows at random states; T'/2 evaluations a row.
  void begin_shuffled();
  // Random first states of one batch of rows: int64 [batch].
  at::Tensor first_states() const;

 private:
  struct Options;  // the parameters' values
  struct Walk;     // what `start` makes
  std::int64_t chain_steps(const DiffusionConfig& diffusion) const;
  std::int64_t prepared_rows(std::int64_t chain_steps, std::int64_t batch) const;

  std::unique_ptr<const Options> options_;
  std::unique_ptr<Walk> walk_;
};

// `tables` one after another.
DKDM_API ParamTable joined(std::initializer_list<ParamTable> tables);

}  // namespace dkdm
