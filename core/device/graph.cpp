#include "device/graph.hpp"

#include <c10/core/DeviceGuard.h>
#include <dlfcn.h>
#include <torch/version.h>

#include <filesystem>
#include <mutex>

#include "error_text.hpp"

// Since LibTorch 2.13, which has no implementation for CUDA: that is core/cuda/graphs.cpp.
#if __has_include(<ATen/core/GraphImplInterface.h>)
#include <ATen/core/GraphImplInterface.h>
#define DKDM_HAS_GRAPHS 1
#else
#define DKDM_HAS_GRAPHS 0
#endif

namespace dkdm::device {

#if DKDM_HAS_GRAPHS

namespace {

constexpr const char* kModule = "libdkdm_cuda.so";

// The module lies beside this library. It registers what it has when it is loaded. "" = loaded.
std::string load_module() {
  static std::mutex mutex;
  static std::string* failure = nullptr;
  const std::scoped_lock lock(mutex);
  if (failure) return *failure;
  ::Dl_info here{};
  ::dladdr(reinterpret_cast<const void*>(&Graph::why_not), &here);
  const auto file =
      std::filesystem::path(here.dli_fname ? here.dli_fname : "").parent_path() / kModule;
  const void* module = ::dlopen(file.c_str(), RTLD_LAZY | RTLD_LOCAL);
  const char* message = module ? nullptr : ::dlerror();
  failure = new std::string(module    ? ""
                            : message ? message
                                      : std::string(kModule) + ": not loaded");
  return *failure;
}

}  // namespace

struct Graph::Recorder {
  std::unique_ptr<at::GraphImplInterface> graph;
  at::MempoolId_t pool{0, 0};
};

std::string Graph::why_not(at::Device device) {
  if (at::has_graph_impl(device.type())) return "";
  if (!device.is_cuda()) return device.str() + " records no work";
  return load_module();
}

Graph::Graph(at::Device device, const Graph* with)
    : device_(device), recorder_(new Recorder{at::create_graph_impl(device.type())}) {
  if (with) recorder_->pool = with->recorder_->graph->pool();
}

void Graph::record(const std::function<void()>& work) {
  const c10::DeviceGuard guard(device_);
  at::GraphImplInterface& graph = *recorder_->graph;
  graph.capture_begin(recorder_->pool, at::GraphCaptureMode::ThreadLocal);
  try {
    work();
  } catch (const std::exception& error) {
    const std::string message = error_text(error);
    try {
      graph.capture_end();
    } catch (const std::exception&) {  // of a recording that the device has already given up
    }
    throw Error(message);
  }
  try {
    graph.capture_end();
  } catch (const std::exception& error) {
    throw Error(error_text(error));
  }
}

void Graph::replay() {
  const c10::DeviceGuard guard(device_);
  recorder_->graph->replay();
}

#else

struct Graph::Recorder {};

std::string Graph::why_not(at::Device) {
  return std::string("LibTorch ") + TORCH_VERSION + " has no interface for it; 2.13 has";
}

Graph::Graph(at::Device device, const Graph*) : device_(device) {
  throw Error("work on " + device.str() + " cannot be recorded: " + why_not(device));
}
void Graph::record(const std::function<void()>&) {}
void Graph::replay() {}

#endif

Graph::~Graph() = default;

}  // namespace dkdm::device
