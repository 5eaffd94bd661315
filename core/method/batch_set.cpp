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
#include "method/pool_rows.hpp"

namespace dkdm {

BatchSet::BatchSet(const GaussianDiffusion& chain, const SampleShape& shape, std::uint64_t seed,
                   std::int64_t capacity, TeacherClip clip, at::Device device, bool on_host)
    : chain_(&chain), shape_(shape), seed_(seed), capacity_(capacity), clip_(clip), device_(device),
      x_(std::make_unique<Rows>(shape, capacity, device, on_host)),
      s_(at::zeros({capacity}, at::kLong)), end_(at::zeros({capacity}, at::kLong)),
      restarts_(at::zeros({capacity}, at::kLong)) {}

BatchSet::~BatchSet() = default;

void BatchSet::fill(const at::Tensor& x, const at::Tensor& states, const at::Tensor& ends) {
  rows_ = x.size(0);
  x_->fill(x);
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

  // The set grows with the first results, the others replace their origins.
  const std::int64_t grown = std::min(capacity_ - rows_, count);
  const at::Tensor to =
      at::cat({at::arange(rows_, rows_ + grown, at::kLong), drawn.narrow(0, grown, count - grown)});

  // One teacher step gives both the student's targets and the rows' next states.
  const at::Tensor states = s_.index_select(0, drawn) - 1;
  const at::Tensor sent = sent_to(at::stack({drawn, states, to}), device_);
  TrainBatch batch;
  batch.x_t = x_->gather(drawn, sent[0]);
  batch.t = sent[1];
  const at::Tensor places = at::arange(kTrainingNoise, kTrainingNoise + count, sent.options());
  const at::Tensor z = Random(seed_, Stream::pool_noise)
                           .normal(static_cast<std::uint32_t>(step), places, shape_.sizes());
  const TeacherStep next = teacher_step(teacher, *chain_, batch.x_t, batch.t, z, clip_);
  batch.teacher = next.p;
  batch.x_prev = next.x_prev;

  x_->put(to, sent[2], next.x_prev);
  s_.index_copy_(0, to, states);
  rows_ += grown;
  return batch;
}

void BatchSet::expect(const at::Tensor& drawn) { x_->expect(drawn); }

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
  x_->replace(rows, at::cat(noise));
  s_.index_fill_(0, rows, chain_->num_steps());
  end_.index_fill_(0, rows, 0);
  restarts_.index_copy_(0, rows, restarts);
}

TensorMap BatchSet::state() const {
  if (rows_ == 0) return {};
  return {{"x", x_->first(rows_)},
          {"state", s_.narrow(0, 0, rows_)},
          {"end", end_.narrow(0, 0, rows_)},
          {"restarts", restarts_.narrow(0, 0, rows_)}};
}

void BatchSet::restore(const TensorMap& state) {
  rows_ = 0;
  if (state.count("x") == 0) return;  // saved before the first batch
  if (state.at("x").sizes().slice(1) != x_->sizes().slice(1) || state.at("x").size(0) > capacity_) {
    throw ConfigError("the saved batch set has another shape than this run's");
  }
  fill(state.at("x"), state.at("state"), state.at("end"));
  restarts_.narrow(0, 0, rows_).copy_(state.at("restarts"));
}

}  // namespace dkdm
