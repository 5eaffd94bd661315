// Dynamic iterative distillation: Algorithm 1 of the paper (DKDM, CVPR 2025), line by line.
//
//   distill TEACHER STUDENT BATCH STEPS OUT
//
// TEACHER is the folder of a trained diffusion model, STUDENT the name of a plugin: a network of
// any architecture. The student learns single denoising steps of the teacher, at states that the
// teacher itself walks through; no image is needed, real or synthetic. On one machine the weights
// in OUT equal, bit for bit, those of `dkdm run` with method "dynamic" at seed 0
// (tests/e2e/library.cpp compares them): a run adds checkpoints, records and checks, not
// mathematics. Where the paper and its authors' code differ, this is the code
// (core/diffusion/README.md). A row's state t counts as in the paper: T is pure noise, 0 an image.
// The networks count steps from 0: index t - 1 asks for the step from t to t - 1.
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <string>
#include <vector>

#include "dkdm/denoising.hpp"
#include "dkdm/diffusion.hpp"
#include "dkdm/io.hpp"
#include "dkdm/library.hpp"
#include "dkdm/nn.hpp"
#include "dkdm/optimizer.hpp"
#include "dkdm/random.hpp"

namespace {

using dkdm::Random;
using dkdm::Stream;

constexpr double kRho = 0.4,
                 kLambda = 1;  // the set holds rho T batches; lambda weighs the second loss term

void distill(const std::string& teacher_folder, const std::string& student_name, std::int64_t batch,
             std::int64_t steps, const std::filesystem::path& out) {
  const dkdm::Library library;
  const dkdm::TrainedModel teacher = library.load_model(teacher_folder, "ema");
  const auto student = library.student(student_name, {}, {teacher.shape, teacher.diffusion},
                                       dkdm::seed_for(0, "initialise"));
  const dkdm::Params settings = dkdm::train_settings({{"batch", batch}, {"steps", steps}});
  dkdm::train::Optimizer optimizer(*student, settings);

  const dkdm::GaussianDiffusion chain(teacher.diffusion);
  const std::int64_t T = chain.num_steps(), channels = teacher.shape.channels;
  const auto shape = teacher.shape.sizes();
  const std::int64_t rows = std::max<std::int64_t>(std::nearbyint(kRho * double(T)), 1) * batch;

  // Every random number is a function of (seed, stream, step, row): nothing depends on what was
  // drawn before.
  const std::uint64_t seed = dkdm::seed_for(0, "method");
  const Random start(seed, Stream::pool_start), noise(seed, Stream::pool_noise);
  const Random selection(seed, Stream::pool_choice);

  // Require: the enlarged batch set B+ of Gaussian noise.
  // Line 1: shuffle denoise. The teacher walks row i from noise at T to its random state t_i. Rows
  // with walks of about equal length go together, so that the teacher's batches stay full.
  at::Tensor t = dkdm::random_states(seed, rows, T);  // [rows], uniform on 1 … T - 1
  at::Tensor x = at::empty(teacher.shape.batch(rows), at::kFloat, at::MemoryFormat::ChannelsLast);
  for (const at::Tensor& some :
       t.argsort(/*stable=*/true, /*dim=*/0, /*descending=*/true).split(batch))
    x.index_copy_(0, some,
                  dkdm::shuffle_denoise(*teacher.network, chain, teacher.shape, seed, some,
                                        t.index_select(0, some), [](std::int64_t) {}));
  std::vector<std::uint32_t> restarts(rows, 0);

  for (std::int64_t j = 0; j < steps; ++j) {  // lines 2 and 3
    // Line 4: the batch B, distinct rows of B+ at random.
    const at::Tensor drawn = selection.choice(j, rows, batch);
    const at::Tensor x_t = x.index_select(0, drawn).contiguous(at::MemoryFormat::ChannelsLast);
    const at::Tensor index = t.index_select(0, drawn) - 1;

    // The teacher denoises B by one step. That gives both what the student learns here (its
    // distribution p_T of x_{t-1}, and eps_T) and where the rows stand next (a draw of it): no
    // forward is wasted.
    const at::Tensor z = noise.normal(j, dkdm::kTrainingNoise, batch, shape);
    const dkdm::TeacherStep step = dkdm::teacher_step(*teacher.network, chain, x_t, index, z);

    // Line 5, Eq. 20: L_simple = |eps_T - eps_S|^2, which teaches the student's mean.
    // Line 6, Eq. 12 and 21: L_vlb = KL(p_T ‖ p_S), which teaches its variance alone (its mean is
    // detached).
    dkdm::nn::seed_layers(*student, dkdm::seed_for(0, "dropout"), j);
    const at::Tensor output =
        student->forward(x_t, chain.model_timesteps(index));  // eps_S and v [B,2C,H,W]
    const dkdm::LossTerms loss =
        dkdm::distillation_loss(chain, output, x_t, index, step.p, /*student_clip=*/false, kLambda);

    // Line 7: a gradient step on L_simple + lambda L_vlb (AdamW, then the weights' moving average).
    loss.loss.mean().backward();
    optimizer.step(j, optimizer.grad_norm());

    // Line 8: the denoised rows take their places in B+. A row that has become an image starts
    // again as noise.
    x.index_copy_(0, drawn, step.x_prev);
    t.index_copy_(0, drawn, index);
    for (std::int64_t i = 0; i < batch; ++i) {
      if (index[i].item<std::int64_t>() > 0) continue;
      const auto row = drawn[i].item<std::int64_t>();
      x.narrow(0, row, 1).copy_(start.normal(++restarts[row], row, 1, shape));
      t[row] = T;
    }
    if (j % 100 == 0)
      std::printf("step %lld: L_simple %.4f, L_vlb %.4f bits\n", static_cast<long long>(j),
                  loss.mse.mean().item<double>(), loss.vb.mean().item<double>());
  }  // line 9: "until converged" is a number of steps here

  std::filesystem::create_directories(out);
  dkdm::io::save_tensors(out / "raw.safetensors", optimizer.weights(/*ema=*/false));
  dkdm::io::save_tensors(out / "ema.safetensors", optimizer.weights(/*ema=*/true));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) return std::puts("usage: distill TEACHER STUDENT BATCH STEPS OUT"), 2;
  try {
    distill(argv[1], argv[2], std::atoll(argv[3]), std::atoll(argv[4]), argv[5]);
  } catch (const std::exception& error) {
    return std::fprintf(stderr, "distill: %s\n", error.what()), 1;
  }
}
