// The rows that a teacher walks on (dkdm/batch_set.hpp).
#include "dkdm/batch_set.hpp"

#include <algorithm>
#include <cstdint>
#include <vector>

#include <ATen/ATen.h>

#include "dkdm/denoising.hpp"
#include "dkdm/device.hpp"
#include "dkdm/diffusion.hpp"
#include "dkdm/random.hpp"

namespace dkdm {

BatchSet::BatchSet(const GaussianDiffusion& chain, const SampleShape& shape, std::uint64_t seed,
                   std::int64_t capacity, TeacherClip clip, at::Device device)
    : chain_(&chain), shape_(shape), seed_(seed), capacity_(capacity), clip_(clip), device_(device),
      x_(at::empty(shape.batch(capacity), at::TensorOptions().dtype(at::kFloat).device(device),
                   at::MemoryFormat::ChannelsLast)),
      s_(at::zeros({capacity}, at::kLong)), end_(at::zeros({capacity}, at::kLong)),
      restarts_(at::zeros({capacity}, at::kLong)) {}

void BatchSet::fill(const at::Tensor& x, const at::Tensor& states, const at::Tensor& ends) {
  rows_ = x.size(0);
  x_.narrow(0, 0, rows_).copy_(x);
  s_.narrow(0, 0, rows_).copy_(states);
  if (ends.defined()) end_.narrow(0, 0, rows_).copy_(ends);
}

void BatchSet::fill_with_noise(std::int64_t n, const at::Tensor& ends) {
  const at::Tensor rows = at::arange(n, at::TensorOptions().dtype(at::kLong).device(device_));
  const at::Tensor x = Random(seed_, Stream::pool_start).normal(0, rows, shape_.sizes());
  fill(x, at::full({n}, chain_->num_steps(), at::kLong), ends);
}

TrainBatch BatchSet::advance(Denoiser& teacher, const at::Tensor& drawn, std::int64_t step) {
  const std::int64_t count = drawn.size(0);

  restart(drawn.masked_select(s_.index_select(0, drawn) == end_.index_select(0, drawn)));

  // One teacher step gives both the student's targets and the rows' next states.
  const at::Tensor states = s_.index_select(0, drawn) - 1;
  const at::Tensor sent = sent_to(at::stack({drawn, states}), device_), rows = sent[0];
  TrainBatch batch;
  batch.x_t = x_.index_select(0, rows).contiguous(at::MemoryFormat::ChannelsLast);
  batch.t = sent[1];
  const at::Tensor places = at::arange(kTrainingNoise, kTrainingNoise + count, rows.options());
  const at::Tensor z = Random(seed_, Stream::pool_noise)
                           .normal(static_cast<std::uint32_t>(step), places, shape_.sizes());
  const TeacherStep next = teacher_step(teacher, *chain_, batch.x_t, batch.t, z, clip_);
  batch.teacher = next.p;
  batch.x_prev = next.x_prev;

  // Grow the set with the first results, write the others back.
  const std::int64_t grown = std::min(capacity_ - rows_, count);
  if (grown > 0) {
    x_.narrow(0, rows_, grown).copy_(next.x_prev.narrow(0, 0, grown));
    s_.narrow(0, rows_, grown).copy_(states.narrow(0, 0, grown));
    rows_ += grown;
  }
  if (grown < count) {
    x_.index_copy_(0, rows.narrow(0, grown, count - grown),
                   next.x_prev.narrow(0, grown, count - grown));
    s_.index_copy_(0, drawn.narrow(0, grown, count - grown),
                   states.narrow(0, grown, count - grown));
  }
  return batch;
}

// Rows whose pass is over begin again from fresh noise.
void BatchSet::restart(const at::Tensor& rows) {
  const std::int64_t count = rows.size(0);
  if (count == 0) return;
  const Random start(seed_, Stream::pool_start);
  const at::Tensor restarts = restarts_.index_select(0, rows) + 1;
  std::vector<at::Tensor> noise;
  for (std::int64_t i = 0; i < count; ++i)
    noise.push_back(start.normal(static_cast<std::uint32_t>(restarts[i].item<std::int64_t>()),
                                 rows[i].item<std::int64_t>(), 1, shape_.sizes()));
  x_.index_copy_(0, sent_to(rows, device_), sent_to(at::cat(noise), device_));
  s_.index_fill_(0, rows, chain_->num_steps());
  end_.index_fill_(0, rows, 0);
  restarts_.index_copy_(0, rows, restarts);
}

TensorMap BatchSet::state() const {
  if (rows_ == 0) return {};
  return {{"x", x_.narrow(0, 0, rows_)},
          {"state", s_.narrow(0, 0, rows_)},
          {"end", end_.narrow(0, 0, rows_)},
          {"restarts", restarts_.narrow(0, 0, rows_)}};
}

void BatchSet::restore(const TensorMap& state) {
  rows_ = 0;
  if (state.count("x") == 0) return;  // saved before the first batch
  if (state.at("x").sizes().slice(1) != x_.sizes().slice(1) || state.at("x").size(0) > capacity_) {
    throw ConfigError("the saved batch set has another shape than this run's");
  }
  fill(state.at("x"), state.at("state"), state.at("end"));
  restarts_.narrow(0, 0, rows_).copy_(state.at("restarts"));
}

}  // namespace dkdm
