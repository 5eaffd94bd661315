// A training method: baseline (needs data) or distillation (needs the teacher). It produces each
// training batch with its targets; the loop, optimiser, EMA, checkpoints and logs are the host's.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "dkdm/host.hpp"

namespace dkdm {

class Dataset;
class GaussianDiffusion;

// What a method reads; the host makes these stages and no others.
struct Needs {
  bool teacher = false;
  bool dataset = false;      // real images
  bool synthetic = false;    // images sampled from the teacher, as many as the dataset's or stated
  bool preparation = false;  // `prepare` makes an artifact once for every student that shares it
};

// What the host gives. Pointers are null where `needs` did not ask. Lives as long as the method.
struct MethodContext {
  Host& host;
  DiffusionConfig diffusion;           // of the run; a distillation method may respace its chain
  ImageSpec spec;
  std::int64_t batch = 0;              // training examples a step
  std::uint64_t seed = 0;
  const TrainedModel* teacher = nullptr;
  const Dataset* dataset = nullptr;
  const Dataset* synthetic = nullptr;
};

// One training batch: what the student sees, what it is compared with. t counts the method's own
// (possibly respaced) steps; the loop calls the student with diffusion().network_time(t).
struct TrainBatch {
  at::Tensor x_t, t;     // [N,C,S,S] f32, [N] int64
  at::Tensor x0, eps;    // data-based targets
  Distribution teacher;  // distillation targets
  at::Tensor x_prev;     // [N,C,S,S] f32, the teacher's x_{t-1}
};

using TensorMap = std::map<std::string, at::Tensor>;

class DKDM_API Method {
 public:
  virtual ~Method();

  virtual Needs needs() const = 0;

  // Makes the shared preparation in the empty or half-made folder `dir` (called again after a kill;
  // may keep partial files there). Only when needs().preparation.
  virtual void prepare(const MethodContext& context, const std::filesystem::path& dir);

  // Single-image teacher forwards that `prepare` will make, for the estimate of its time.
  virtual std::int64_t preparation_evaluations(const DiffusionConfig& diffusion,
                                               std::int64_t batch) const;

  // Called once before the first batch. `prepared` is the folder that `prepare` filled, else empty.
  virtual void start(const MethodContext& context, const std::filesystem::path& prepared) = 0;

  virtual const GaussianDiffusion& diffusion() const = 0;
  // The batch of training step `step` (0, 1, …), called in order, once each.
  virtual TrainBatch next(std::int64_t step) = 0;
  // Loss of the student's output on the last batch.
  virtual LossTerms loss(const TrainBatch& batch, const at::Tensor& output) const = 0;
  // Single-image teacher forwards so far, preparation not counted.
  virtual std::int64_t teacher_evaluations() const { return 0; }

  // Everything beyond (seed, step) that `next` depends on: with it restored, training continues bit
  // for bit. Called between steps.
  virtual TensorMap state() const { return {}; }
  virtual void restore(const TensorMap&) {}
};

}  // namespace dkdm
