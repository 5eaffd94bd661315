// A training method: baseline (needs data) or distillation (needs the teacher). It makes each batch
// with its targets; loop, optimiser, EMA, checkpoints, logs are the host's. Threads: called by one.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

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
  DiffusionConfig diffusion;  // of the run; a distillation method may respace its chain
  SampleShape shape;
  std::int64_t batch = 0;  // training examples a step
  std::uint64_t seed = 0;
  const TrainedModel* teacher = nullptr;
  const Dataset* dataset = nullptr;
  const Dataset* synthetic = nullptr;
  Denoiser* student = nullptr;   // what is about to be trained; null in `prepare`, which is shared
  bool pool_on_host = false;     // what a method holds stays in host memory ([train] pool)
  bool keep_last_batch = false;  // an epoch's last, smaller batch is one too ([train] last_batch)
};

// One training batch: what the student sees, what it is compared with. t counts the method's own
// (possibly respaced) steps; the loop calls the student with diffusion().model_timesteps(t).
struct TrainBatch {
  at::Tensor x_t, t;     // [N,C,H,W] f32, [N] int64
  at::Tensor x0, eps;    // data-based targets
  Distribution teacher;  // distillation targets
  at::Tensor x_prev;     // [N,C,H,W] f32, the teacher's x_{t-1}
  TensorMap features;    // the student's, with gradient: the loop puts them in before `loss`
  TensorMap teacher_features;
};

// A network of the method's own that is trained with the student, such as a projection of features.
struct TrainedPart {
  std::shared_ptr<torch::nn::Module> network;  // null = none
  bool ema = false;                            // averaged as the student's weights are
};

class DKDM_API Method {
 public:
  virtual ~Method();
  virtual Needs needs() const = 0;

  // Makes the shared preparation in the empty or half-made folder `dir` (called again after a kill;
  // may keep partial files there). Only when needs().preparation.
  virtual void prepare(const MethodContext& context, const std::filesystem::path& dir);

  // What decides, besides name, version, batch and seed, what `prepare` makes: the parameters that
  // it reads, as text. Runs that differ in others share it. Input of keys; "" = all parameters.
  virtual std::string preparation_identity(const DiffusionConfig&, std::int64_t batch) const;

  // What it costs, on average and before anything is made: single-image teacher forwards of
  // `prepare` and of `steps` training steps (by default one an example if needs().teacher), and
  // bytes held besides the networks. Shown and limited by `plan`, held against counts by `check`.
  virtual std::int64_t preparation_evaluations(const DiffusionConfig&, std::int64_t batch) const;
  virtual std::int64_t training_evaluations(const DiffusionConfig&, std::int64_t batch,
                                            std::int64_t steps) const;
  virtual double held_bytes(const DiffusionConfig&, const SampleShape&, std::int64_t batch) const;

  // Called once before the first batch. `prepared` is the folder that `prepare` filled, else empty.
  // LibTorch's generator is seeded from the run's seed meanwhile, for a trained part's weights.
  virtual void start(const MethodContext& context, const std::filesystem::path& prepared) = 0;
  virtual const GaussianDiffusion& diffusion() const = 0;
  // The batch of training step `step` (0, 1, …), called in order, once each.
  virtual TrainBatch next(std::int64_t step) = 0;
  // Loss of the student's output [N,C or 2C,H,W] on the last batch.
  virtual LossTerms loss(const TrainBatch& batch, const at::Tensor& output) const = 0;

  // After `start`: names of the student's features that `loss` reads (dkdm/features.hpp), and a
  // network that its gradient trains too. One optimiser steps both, with one gradient norm; the
  // part is in every checkpoint and ends in method.safetensors beside the student's weights.
  virtual std::vector<std::string> student_features() const { return {}; }
  virtual TrainedPart trained_part() const { return {}; }

  // Everything beyond (seed, step) that `next` depends on: with it restored, training continues bit
  // for bit. Called between steps; views will do, they are read before the next step.
  virtual TensorMap state() const { return {}; }
  virtual void restore(const TensorMap&) {}
};

}  // namespace dkdm
