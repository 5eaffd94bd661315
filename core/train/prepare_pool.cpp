// Preparation of a batch set in a folder, continued after a kill.
#include <cstdint>
#include <string>
#include <system_error>
#include <vector>

#include <ATen/ATen.h>

#include "dkdm/denoising.hpp"
#include "dkdm/diffusion.hpp"
#include "dkdm/io.hpp"

namespace dkdm {

namespace {

namespace fs = std::filesystem;

std::vector<fs::path> parts_of(const fs::path& dir) {
  std::vector<fs::path> parts;
  for (const fs::directory_entry& entry : fs::directory_iterator(dir)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("part-")) parts.push_back(entry.path());
  }
  return parts;
}

}  // namespace

void prepare_pool(const MethodContext& context, const GaussianDiffusion& chain, std::int64_t rows,
                  std::int64_t teacher_batch, const std::filesystem::path& dir,
                  const WalkOptions& options) {
  const fs::path whole = dir / "pool.safetensors";
  if (fs::exists(whole)) return;
  const ImageSpec& spec = context.spec;
  const at::Tensor states =
      random_states(context.seed, rows, chain.num_steps(), options.first_states);
  at::Tensor x = at::zeros({rows, spec.channels, spec.size, spec.size}, at::kFloat);
  at::Tensor done = at::zeros({rows}, at::kBool);

  // Take over what an earlier attempt finished.
  for (const fs::path& part : parts_of(dir)) {
    if (part.extension() != ".safetensors") continue;  // a write that was cut short
    const TensorMap saved = io::load_tensors(part);
    x.index_copy_(0, saved.at("row"), saved.at("x"));
    done.index_fill_(0, saved.at("row"), true);
  }

  // Walk the rest, rows of nearly equal walks together, so that lock-step batches stay full.
  const at::Tensor order = at::argsort(states, /*stable=*/true, /*dim=*/0, /*descending=*/true);
  const at::Tensor todo = order.masked_select(done.index_select(0, order).logical_not());
  const at::Tensor walk = chain.num_steps() - states;
  const auto total = walk.sum().item<std::int64_t>();
  auto forwards = (walk * done).sum().item<std::int64_t>();
  context.host.progress("teacher steps", forwards, total);
  for (const at::Tensor& chunk : todo.split(teacher_batch)) {
    if (chunk.size(0) == 0) break;
    const at::Tensor walked = shuffle_denoise(
        *context.teacher->network, chain, spec, context.seed, chunk, states.index_select(0, chunk),
        [&](std::int64_t count) {
          forwards += count;
          context.host.progress("teacher steps", forwards, total);
        },
        options.clip);
    // The number of rows done before it names a part: it grows from part to part and over attempts.
    const auto before = done.sum().item<std::int64_t>();
    io::save_tensors(dir / ("part-" + std::to_string(before) + ".safetensors"),
                     {{"row", chunk.contiguous()}, {"x", walked.contiguous()}});
    x.index_copy_(0, chunk, walked);
    done.index_fill_(0, chunk, true);
  }

  io::save_tensors(whole, {{"x", x}, {"state", states}});
  std::error_code ignored;  // parts left behind cost space, nothing else
  for (const fs::path& part : parts_of(dir)) fs::remove(part, ignored);
}

}  // namespace dkdm
