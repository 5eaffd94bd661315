// What distillation methods share: the set of states that the teacher walks on while the student
// learns (paper Algorithm 1) and the loss of Eq. 19-21. States and keys: dkdm/denoising.hpp.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>

#include "dkdm/denoising.hpp"
#include "dkdm/method.hpp"
#include "dkdm/params.hpp"
#include "dkdm/random.hpp"

namespace dkdm {

// The batch set: rows of (x, s) that the teacher takes one step further whenever they are drawn.
class DKDM_API BatchSet {
 public:
  BatchSet(const GaussianDiffusion& chain, const ImageSpec& spec, std::uint64_t seed,
           std::int64_t capacity, TeacherClip clip = TeacherClip::both);

  std::int64_t rows() const { return rows_; }
  // Rows 0 … n-1 at x [n,C,S,S] and states [n]; a row's first pass ends at ends[n] (absent: 0).
  void fill(const at::Tensor& x, const at::Tensor& states, const at::Tensor& ends = {});
  // Rows 0 … n-1 as pure noise; `ends` as above.
  void fill_with_noise(std::int64_t n, const at::Tensor& ends = {});

  // One teacher step on the distinct rows `drawn` (int64 [n]) at training step `step`. A drawn row
  // whose pass is over starts again from fresh noise first (a finished image waits until drawn).
  // The results replace their rows; while the set has fewer rows than its capacity they are
  // appended instead and their origins stay.
  TrainBatch advance(Denoiser& teacher, const at::Tensor& drawn, std::int64_t step);

  TensorMap state() const;
  void restore(const TensorMap& state);

 private:
  const GaussianDiffusion* chain_;
  ImageSpec spec_;
  std::uint64_t seed_;
  std::int64_t capacity_, rows_ = 0;
  TeacherClip clip_;
  at::Tensor x_, s_, end_, restarts_;  // [capacity, …]; x_ channels-last, the others int64
};

// A distillation method: the subclass says how large the set is, how it begins and what is drawn.
class DKDM_API Distillation : public Method {
 public:
  explicit Distillation(const Params& params);
  static ParamTable chain_params();        // chain, lambda, student_clip, teacher_clip, t0_term
  static ParamTable preparation_params();  // prepare, teacher_batch, first_states

  Needs needs() const final;
  void prepare(const MethodContext& context, const std::filesystem::path& dir) final;
  // On average: T'/2 a row.
  std::int64_t preparation_evaluations(const DiffusionConfig& diffusion,
                                       std::int64_t batch) const final;
  void start(const MethodContext& context, const std::filesystem::path& prepared) final;
  const GaussianDiffusion& diffusion() const final { return *chain_; }
  TrainBatch next(std::int64_t step) final;
  LossTerms loss(const TrainBatch& batch, const at::Tensor& output) const final;
  // Since `start`.
  std::int64_t teacher_evaluations() const final { return evaluations_; }
  TensorMap state() const final { return set_->state(); }
  void restore(const TensorMap& state) final { set_->restore(state); }

 protected:
  // Rows of the whole set for a chain of T' steps.
  virtual std::int64_t set_size(std::int64_t chain_steps, std::int64_t batch) const;
  // Fills the empty set when nothing was prepared; called before the first batch.
  virtual void begin() = 0;
  // Distinct rows for training step `step`, int64 [batch].
  virtual at::Tensor draw(std::int64_t step) const = 0;

  BatchSet& set() { return *set_; }
  const BatchSet& set() const { return *set_; }
  std::int64_t batch() const { return batch_; }
  std::uint64_t seed() const { return seed_; }
  // begin() for a set that starts with `batch` rows at random states.
  void begin_shuffled();
  // Random first states of one batch of rows: int64 [batch].
  at::Tensor first_states() const;

 private:
  std::string respacing_;
  bool student_clip_, decode_, upfront_;
  double lambda_;
  WalkOptions walk_;
  std::int64_t teacher_batch_;
  Host* host_ = nullptr;
  ImageSpec spec_;
  std::int64_t batch_ = 0, evaluations_ = 0;
  std::uint64_t seed_ = 0;
  std::shared_ptr<Denoiser> teacher_;
  // The same chain twice: v of the teacher's network may mean another variance than the student's.
  std::optional<GaussianDiffusion> chain_, teacher_chain_;
  std::optional<BatchSet> set_;
};

// `tables` one after another.
DKDM_API ParamTable joined(std::initializer_list<ParamTable> tables);

}  // namespace dkdm
