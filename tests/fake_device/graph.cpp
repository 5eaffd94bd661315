#include "fake_device/graph.hpp"

#if __has_include(<ATen/core/GraphImplInterface.h>)  // LibTorch 2.13
#include <ATen/core/GraphImplInterface.h>
#define FAKE_DEVICE_HAS_GRAPHS 1
#endif

#include <atomic>
#include <cstring>
#include <list>
#include <mutex>

#include "fake_device/fake_device.hpp"
#include "fake_device/fallback.hpp"
#include "fake_device/record.hpp"

namespace fake_device {
namespace {

struct Work {
  std::vector<at::Tensor> results;
  std::function<std::vector<at::Tensor>()> again;
};
using Works = std::list<Work>;

// One at a time in the process: a backward pass runs on a thread of its own.
std::mutex mutex;
std::atomic<Works*> recorded = nullptr;

#ifdef FAKE_DEVICE_HAS_GRAPHS
class FakeGraph final : public at::GraphImplInterface {
 public:
  explicit FakeGraph(const at::GraphImplArgs&) {}

  void capture_begin(at::MempoolId_t, at::GraphCaptureMode) override {
    TORCH_CHECK(!recording(), "fake device: two recordings at a time");
    works_.clear();
    recorded = &works_;
  }
  void capture_end() override { recorded = nullptr; }
  void instantiate() override {}
  void replay() override {
    TORCH_CHECK(!recording(), "fake device: a replay while work is recorded");
    const Replaying replaying;
    for (const Work& work : works_) {
      const std::vector<at::Tensor> made = work.again();
      for (std::size_t i = 0; i < work.results.size(); ++i) {
        if (!work.results[i].defined() || work.results[i].is_same(made[i])) continue;
        Aliases aliases;
        aliases.of(work.results[i]).copy_(aliases.of(made[i]));
      }
    }
  }
  void reset() override { works_.clear(); }
  at::MempoolId_t pool() const override { return {0, 0}; }
  void enable_debug_mode() override {}
  void debug_dump(const std::string&) override {}

 private:
  Works works_;
};
#endif

}  // namespace

bool recording() { return recorded != nullptr; }

void refuse_in_recording(const std::string& what) {
  TORCH_CHECK(!recording(), "fake device: ", what, " while work is recorded");
}

void add_to_recording(std::vector<at::Tensor> results,
                      std::function<std::vector<at::Tensor>()> again) {
  const std::scoped_lock lock(mutex);
  if (Works* works = recorded) works->push_back({std::move(results), std::move(again)});
}

}  // namespace fake_device

#ifdef FAKE_DEVICE_HAS_GRAPHS
namespace at {
C10_REGISTER_CLASS(GraphImplRegistry, FAKE, fake_device::FakeGraph)
}
#endif
