// The one training loop, for every method.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "dkdm/denoiser.hpp"
#include "dkdm/method.hpp"
#include "dkdm/params.hpp"
#include "record/records.hpp"

namespace dkdm::train {

// Of the teacher's network, in training a student.
struct TeacherWork {
  std::int64_t evaluations = 0;  // single-image forwards
  double seconds = 0;
};

struct TrainResult {
  std::int64_t steps = 0;
  std::int64_t examples = 0;  // of all steps
  double elapsed_s = 0;       // of all attempts, up to their checkpoints
  TeacherWork teacher;        // likewise
  // Of [train] graphs, in this attempt: "recorded", or why not (train/recorded_network.hpp); "" =
  // not asked for.
  std::string graphs;
};

// Weights to keep on the way, besides the last ones.
struct SnapshotPolicy {
  std::int64_t every = 0;       // steps; 0 = none
  std::string weights = "ema";  // or "raw"
  // Called with the weights after `every`, 2 `every`, … steps, as long as more steps follow; after
  // a kill perhaps again, with the same bits.
  std::function<void(std::int64_t step, const TensorMap& weights)> keep;
};

// The weights of a method's trained part.
inline constexpr const char* kPartFile = "method.safetensors";

// Trains `student` on the batches of `method` (already started) for settings' `steps`, and writes
// raw.safetensors and ema.safetensors to `folder`; kPartFile where the method has a trained part.
// `settings` is [train]; `seed` controls dropout and whatever else the networks draw in training.
//
// folder/checkpoint.safetensors holds everything (weights, EMA, optimiser, method state, step): it
// is written every `checkpoint_every` steps, every `checkpoint_minutes` and when the host asks to
// stop, the one before it kept until it is whole, and a call that finds it continues from it, to
// the same bits as a run that was never stopped (same machine, same thread count). A damaged one is
// set aside, which the log says, and the one before it taken, else step 0. Throws Error naming the
// step when the loss is not finite; the last checkpoint stays. `record` gets the curves, a batch of
// points at a time (loss, mse, vb, grad_norm, lr, step_seconds; log2_loss_scale in fp16). What is
// kept changes no bit of the training; nor does `graphs`, which repeats the student's passes as an
// accelerator has recorded them. `hint`: see divergence_advice. `teacher` says what its
// network did in this attempt (none: there is no teacher).
DKDM_API TrainResult
train(Denoiser& student, Method& method, Host& host, const Params& settings, std::uint64_t seed,
      const std::filesystem::path& folder,
      const std::function<void(const std::vector<record::CurvePoint>&)>& record,
      const SnapshotPolicy& kept = {}, const std::string& hint = "",
      const std::function<TeacherWork()>& teacher = {});

// What a loss that is not finite is answered with: whether there is a checkpoint, and settings of
// [train] that are not what they should be then; `hint`, what else, of the method's parameters (""
// = nothing).
DKDM_API std::string divergence_advice(const Params& settings, bool has_checkpoint,
                                       const std::string& hint);

}  // namespace dkdm::train
