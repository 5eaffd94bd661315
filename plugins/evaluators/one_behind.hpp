// Results of a network's batches on their way to what sums them on the CPU.
#pragma once

#include <ATen/ATen.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <cstddef>
#include <deque>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

namespace dkdm::evaluators {

// Hands them over in order: on the CPU at once, from an accelerator one batch late, so that it is
// at the next batch while the host waits for the copy of this one.
class OneBehind {
 public:
  using Results = std::vector<at::Tensor>;
  using Take = std::function<void(const Results&)>;  // gets them on the CPU

  void push(Results results, Take take) {
    const std::size_t late = results.front().is_cpu() ? 0 : 1;
    waiting_.emplace_back(std::move(results), std::move(take));
    finish(late);
  }

  // Until no more than `most` are on their way.
  void finish(std::size_t most = 0) {
    while (waiting_.size() > most) {
      Batch batch = std::move(waiting_.front());
      waiting_.pop_front();
      batch.take(batch.arrived());
    }
  }

  void clear() { waiting_.clear(); }

 private:
  struct Batch {
    Results results;
    Take take;
    std::optional<c10::Event> copied;

    Batch(Results from, Take to) : results(std::move(from)), take(std::move(to)) {
      const at::Device device = results.front().device();
      if (device.is_cpu()) return;
      for (at::Tensor& result : results) {
        const at::Tensor pinned =
            at::empty(result.sizes(), result.options().device(at::kCPU).pinned_memory(true));
        result = pinned.copy_(result, /*non_blocking=*/true);
      }
      copied.emplace(device.type());
      copied->record(c10::impl::VirtualGuardImpl(device.type()).getStream(device));
    }

    // Pinned memory is scarce, and some results are kept to the end: copies of it.
    const Results& arrived() {
      if (!copied) return results;
      copied->synchronize();
      for (at::Tensor& result : results) result = result.clone();
      return results;
    }
  };

  std::deque<Batch> waiting_;
};

}  // namespace dkdm::evaluators
