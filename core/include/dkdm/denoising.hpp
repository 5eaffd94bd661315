// A teacher walking its own chain: one denoising step, and the preparation of a batch set ("shuffle
// denoise" of paper Algorithm 1). A row's state s is the paper's t: s = T' is pure noise, s = 0 a
// finished image; the networks see step t = s - 1 of the chain.
//
// Random numbers never meet: x_T of a row is keyed (its restarts so far, row) on
// Stream::pool_start; the noise of a row's way to its first state is keyed (s, row) on
// Stream::pool_noise; that of training keyed (training step, kTrainingNoise + place in the batch).
#pragma once

#include <cstdint>
#include <functional>

#include "dkdm/method.hpp"

namespace dkdm {

constexpr std::int64_t kTrainingNoise = std::int64_t{1} << 40;  // more than any number of rows

// Where the teacher's predicted image is clipped to [-1,1]: in its steps and in the distribution
// that the student is compared with (the authors' code), in its steps alone, or nowhere (the
// paper).
enum class TeacherClip { both, chain, none };

// Which states rows are first denoised to: 1 … T'-1 (the authors' code) or 1 … T' (the paper).
enum class FirstStates { inner, all };

// How a teacher walks; the defaults are the authors' code (core/diffusion/README.md).
struct WalkOptions {
  TeacherClip clip = TeacherClip::both;
  FirstStates first_states = FirstStates::inner;
};

struct TeacherStep {
  at::Tensor x_prev;  // x_{t-1} [N,C,H,W] f32, channels-last
  Distribution p;     // what the student is compared with; eps is the teacher's target
};

// One ancestral step: x_t [N,C,H,W], t [N] int64 steps of `chain`, noise z like x_t. Evaluation
// mode, no gradient.
DKDM_API TeacherStep teacher_step(Denoiser& teacher, const GaussianDiffusion& chain,
                                  const at::Tensor& x_t, const at::Tensor& t, const at::Tensor& z,
                                  TeacherClip clip = TeacherClip::both);

// First states of rows 0 … rows-1: int64 [rows], uniform on 1 … T'-1 or 1 … T'. Throws ConfigError
// for a chain of one step.
DKDM_API at::Tensor random_states(std::uint64_t seed, std::int64_t rows, std::int64_t chain_steps,
                                  FirstStates range = FirstStates::inner);

// "Shuffle denoise": `rows` (int64 [n], n > 0) walked from pure noise to `states` (int64 [n], each
// 1 … T'; both on the CPU) in lock-step: f32 [n,C,H,W], where the teacher is. Row i depends on
// (seed, i) alone. `after_forward` gets the number of single-image teacher forwards just done (may
// throw to stop).
DKDM_API at::Tensor shuffle_denoise(Denoiser& teacher, const GaussianDiffusion& chain,
                                    const SampleShape& shape, std::uint64_t seed,
                                    const at::Tensor& rows, const at::Tensor& states,
                                    const std::function<void(std::int64_t)>& after_forward,
                                    TeacherClip clip = TeacherClip::both);

// Fills `dir` with pool.safetensors: x f32 [rows,C,H,W] and state int64 [rows], rows at random
// states, `teacher_batch` of them at a time. Finished batches lie in part files until all are done,
// so a killed preparation continues, with another teacher batch if need be.
DKDM_API void prepare_pool(const MethodContext& context, const GaussianDiffusion& chain,
                           std::int64_t rows, std::int64_t teacher_batch,
                           const std::filesystem::path& dir, const WalkOptions& options = {});

}  // namespace dkdm
