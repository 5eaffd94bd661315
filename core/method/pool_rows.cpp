#include "method/pool_rows.hpp"

#include <ATen/ATen.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <map>
#include <vector>

#include "dkdm/device.hpp"

namespace dkdm {
namespace {

constexpr auto kLast = at::MemoryFormat::ChannelsLast;
constexpr std::size_t kMostReturning = 64;  // batches: each is held on the device as well

at::Tensor indices(const std::vector<std::int64_t>& values, at::Device device) {
  return sent_to(at::tensor(values, at::kLong), device);
}

// `take` gets the elements of `rows` (int64 [n], on the CPU) and their places.
template <class Take>
void for_each(const at::Tensor& rows, const Take& take) {
  const at::Tensor plain = rows.contiguous();
  const auto* row = plain.const_data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < plain.size(0); ++i) take(row[i], i);
}

}  // namespace

BatchSet::Rows::Rows(const SampleShape& shape, std::int64_t capacity, at::Device device,
                     bool on_host)
    : device_(device), on_host_(on_host && !device.is_cpu()),
      x_(at::empty(shape.batch(capacity),
                   at::TensorOptions().dtype(at::kFloat).device(on_host_ ? at::kCPU : device),
                   kLast)) {}

void BatchSet::Rows::fill(const at::Tensor& x) {
  take_returned(/*wait=*/true);
  expected_.reset();
  x_.narrow(0, 0, x.size(0)).copy_(x);
}

at::Tensor BatchSet::Rows::gather(const at::Tensor& rows, const at::Tensor& there) {
  if (!on_host_) return x_.index_select(0, there).contiguous(kLast);
  const bool known = expected_.defined() && at::equal(expected_, rows);
  at::Tensor x = known ? ahead_ : fetched(rows);
  expected_.reset();
  ahead_.reset();
  return x;
}

void BatchSet::Rows::put(const at::Tensor& rows, const at::Tensor& there, const at::Tensor& x) {
  if (!on_host_) {
    x_.index_copy_(0, there, x);
    return;
  }
  at::Tensor staged = at::empty(
      x.sizes(), at::TensorOptions().dtype(at::kFloat).pinned_memory(true).memory_format(kLast));
  staged.copy_(x, /*non_blocking=*/true);
  c10::Event arrived(device_.type());
  arrived.record(c10::impl::VirtualGuardImpl(device_.type()).getStream(device_));
  const auto number = first_number_ + static_cast<std::int64_t>(returning_.size());
  for_each(rows, [&](std::int64_t row, std::int64_t i) { newest_[row] = {number, i}; });
  returning_.push_back({rows, x, staged, std::move(arrived)});
  take_returned(/*wait=*/returning_.size() > kMostReturning);
}

void BatchSet::Rows::replace(const at::Tensor& rows, const at::Tensor& x) {
  if (!on_host_) {
    x_.index_copy_(0, sent_to(rows, device_), sent_to(x, device_));
    return;
  }
  x_.index_copy_(0, rows, x);
  for_each(rows, [&](std::int64_t row, std::int64_t) { newest_.erase(row); });
  if (!expected_.defined()) return;
  const at::Tensor hits = expected_.unsqueeze(1) == rows.unsqueeze(0);  // [expected, rows]
  const at::Tensor pairs = hits.nonzero();
  if (pairs.size(0) == 0) return;
  ahead_.index_copy_(0, sent_to(pairs.select(1, 0).contiguous(), device_),
                     sent_to(x.index_select(0, pairs.select(1, 1)), device_));
}

void BatchSet::Rows::expect(const at::Tensor& rows) {
  if (!on_host_) return;
  ahead_ = fetched(rows);
  expected_ = rows;
}

at::Tensor BatchSet::Rows::first(std::int64_t n) {
  take_returned(/*wait=*/true);
  return x_.narrow(0, 0, n);
}

at::Tensor BatchSet::Rows::fetched(const at::Tensor& rows) {
  take_returned(/*wait=*/false);
  at::Tensor x = sent_to(x_.index_select(0, rows).contiguous(kLast), device_);
  struct Places {
    std::vector<std::int64_t> here, there;
  };
  std::map<std::int64_t, Places> newer;  // by the number of what they return with
  for_each(rows, [&](std::int64_t row, std::int64_t i) {
    const auto found = newest_.find(row);
    if (found == newest_.end()) return;
    Places& places = newer[found->second.first];
    places.here.push_back(i);
    places.there.push_back(found->second.second);
  });
  for (const auto& [number, places] : newer) {
    const at::Tensor& from = returning_[static_cast<std::size_t>(number - first_number_)].x;
    x.index_copy_(0, indices(places.here, device_),
                  from.index_select(0, indices(places.there, device_)));
  }
  return x;
}

void BatchSet::Rows::take_returned(bool wait) {
  for (; !returning_.empty(); returning_.pop_front(), ++first_number_) {
    const Returning& oldest = returning_.front();
    if (wait) oldest.arrived.synchronize();
    else if (!oldest.arrived.query()) return;
    std::vector<std::int64_t> rows, places;
    for_each(oldest.rows, [&](std::int64_t row, std::int64_t i) {
      const auto found = newest_.find(row);
      if (found == newest_.end() || found->second != std::pair(first_number_, i)) return;
      rows.push_back(row);
      places.push_back(i);
      newest_.erase(found);
    });
    x_.index_copy_(0, indices(rows, at::kCPU),
                   oldest.staged.index_select(0, indices(places, at::kCPU)));
  }
}

}  // namespace dkdm
