// Preparation of a batch set in a folder, continued after a kill.
#include <cstdint>
#include <string>
#include <system_error>
#include <vector>

#include <ATen/ATen.h>

#include "dkdm/denoising.hpp"
#include "dkdm/diffusion.hpp"
#include "dkdm/io.hpp"
#include "io/checkpoint/work_file.hpp"

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

// Rows of the set, and where they stand after their walks.
struct Rows {
  at::Tensor x, done;  // [rows,C,H,W] f32, [rows] bool
};

// Takes over what an earlier attempt finished. A part that is not what was written, or not of this
// set, is set aside and its rows are walked again.
void take_over_parts(const fs::path& dir, const std::string& set, const SampleShape& shape,
                     Host& host, Rows& rows) {
  for (const fs::path& part : parts_of(dir)) {
    if (part.extension() != ".safetensors") continue;  // set aside before
    try {
      const io::Work work = io::load_work(part);
      if (work.fact("set") != set) throw DataError(part.string(), "is of another batch set");
      const at::Tensor& row = work.tensor("row", at::kLong, {-1});
      const at::Tensor& x = work.tensor("x", at::kFloat, shape.batch(row.size(0)));
      if (row.numel() > 0 &&
          (row.min().item<std::int64_t>() < 0 || row.max().item<std::int64_t>() >= rows.x.size(0)))
        throw DataError(part.string(), "holds rows that the batch set has not");
      rows.x.index_copy_(0, row, x);
      rows.done.index_fill_(0, row, true);
    } catch (const Error& error) {
      host.log("prepare", io::set_aside(part, error.what()) + "; its rows are made again");
    }
  }
}

// The whole set, when an earlier attempt came so far.
bool is_finished(const fs::path& file, const std::string& set, Host& host) {
  if (!fs::exists(file)) return false;
  try {
    if (io::load_work(file).fact("set") == set) return true;
    throw DataError(file.string(), "is another batch set");
  } catch (const Error& error) {
    host.log("prepare", io::set_aside(file, error.what()) + "; it is made again");
    return false;
  }
}

}  // namespace

void prepare_pool(const MethodContext& context, const GaussianDiffusion& chain, std::int64_t rows,
                  std::int64_t teacher_batch, const std::filesystem::path& dir,
                  const WalkOptions& options) {
  const SampleShape& shape = context.shape;
  const at::Tensor states =
      random_states(context.seed, rows, chain.num_steps(), options.first_states);
  const std::string set = std::to_string(rows) + " rows of seed " + std::to_string(context.seed) +
                          " in " + std::to_string(chain.num_steps()) + " steps";
  const fs::path whole = dir / "pool.safetensors";
  if (is_finished(whole, set, context.host)) return;
  Rows made{at::zeros(shape.batch(rows), at::kFloat), at::zeros({rows}, at::kBool)};
  take_over_parts(dir, set, shape, context.host, made);
  auto& [x, done] = made;

  // Walk the rest, rows of nearly equal walks together, so that lock-step batches stay full.
  const at::Tensor order = at::argsort(states, /*stable=*/true, /*dim=*/0, /*descending=*/true);
  const at::Tensor todo = order.masked_select(done.index_select(0, order).logical_not());
  const at::Tensor walk = chain.num_steps() - states;
  const auto total = walk.sum().item<std::int64_t>();
  auto forwards = (walk * done).sum().item<std::int64_t>();
  context.host.progress("teacher steps", forwards, total);
  for (const at::Tensor& chunk : todo.split(teacher_batch)) {
    if (chunk.size(0) == 0) break;
    const auto count_forwards = [&](std::int64_t count) {
      forwards += count;
      context.host.progress("teacher steps", forwards, total);
    };
    const at::Tensor walked =
        shuffle_denoise(*context.teacher->network, chain, shape, context.seed, chunk,
                        states.index_select(0, chunk), count_forwards, options.clip)
            .to(at::kCPU);
    // Its first row names a part: no other part holds it.
    io::save_work(dir / ("part-" + std::to_string(chunk[0].item<std::int64_t>()) + ".safetensors"),
                  {{"row", chunk.contiguous()}, {"x", walked.contiguous()}}, {{"set", set}});
    x.index_copy_(0, chunk, walked);
    done.index_fill_(0, chunk, true);
  }

  io::save_work(whole, {{"x", x}, {"state", states}}, {{"set", set}});
  std::error_code ignored;  // parts left behind cost space, nothing else
  for (const fs::path& part : parts_of(dir)) fs::remove(part, ignored);
}

}  // namespace dkdm
