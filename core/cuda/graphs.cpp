// libdkdm_cuda.so: CUDA graphs behind LibTorch's interface for recorded work (device/graph.hpp
// loads it). Alone in seeing CUDA's headers, and needs no toolkit to be built: they are in the
// wheels that LibTorch comes with.
#include <ATen/core/GraphImplInterface.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <map>
#include <mutex>
#include <optional>

namespace {

cudaStreamCaptureMode mode_of(at::GraphCaptureMode mode) {
  switch (mode) {
    case at::GraphCaptureMode::ThreadLocal: return cudaStreamCaptureModeThreadLocal;
    case at::GraphCaptureMode::Relaxed: return cudaStreamCaptureModeRelaxed;
    default: return cudaStreamCaptureModeGlobal;
  }
}

// One for all recordings of a device: the nodes of a backward pass run on the stream of the forward
// pass, and libraries keep a workspace for each stream.
c10::cuda::CUDAStream recording_stream() {
  static std::mutex mutex;
  static std::map<c10::DeviceIndex, c10::cuda::CUDAStream> of_device;
  const c10::DeviceIndex device = c10::cuda::current_device();
  const std::scoped_lock lock(mutex);
  return of_device.try_emplace(device, c10::cuda::getStreamFromPool(false, device)).first->second;
}

class CudaGraph final : public at::GraphImplInterface {
 public:
  explicit CudaGraph(const at::GraphImplArgs& args) : graph_(args.keep_graph) {}

  // On a stream of its own: CUDA records nothing on the default one.
  void capture_begin(at::MempoolId_t pool, at::GraphCaptureMode mode) override {
    // What the work reads has been made on the stream that was current until now.
    c10::cuda::device_synchronize();
    on_.emplace(recording_stream());
    try {
      graph_.capture_begin(pool, mode_of(mode));
    } catch (...) {
      on_.reset();
      throw;
    }
  }

  void capture_end() override {
    struct Back {
      std::optional<c10::cuda::CUDAStreamGuard>& on;
      ~Back() { on.reset(); }
    } const back{on_};
    graph_.capture_end();
  }

  void instantiate() override { graph_.instantiate(); }
  void replay() override { graph_.replay(); }
  void reset() override { graph_.reset(); }
  at::MempoolId_t pool() const override { return graph_.pool(); }
  void enable_debug_mode() override { graph_.enable_debug_mode(); }
  void debug_dump(const std::string&) override {
    TORCH_CHECK(false, "a CUDA graph of dkdm is not written to files");
  }

 private:
  mutable at::cuda::CUDAGraph graph_;
  std::optional<c10::cuda::CUDAStreamGuard> on_;
};

}  // namespace

namespace at {
REGISTER_GRAPH_IMPL(CUDA, CudaGraph)
}
