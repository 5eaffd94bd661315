// Work on an accelerator that is recorded once and then done again by one launch (a CUDA graph):
// the same operators on the same memory. What a small network costs a GPU is launching them.
#pragma once

#include <c10/core/Device.h>

#include <functional>
#include <memory>
#include <string>

#include "dkdm/error.hpp"

namespace dkdm::device {

class DKDM_API Graph {
 public:
  // Why no work can be recorded on `device`, "" = it can. For CUDA this loads libdkdm_cuda.so.
  static std::string why_not(at::Device device);

  // Of a device that can. `with`: recorded before it, and always replayed before it.
  explicit Graph(at::Device device, const Graph* with = nullptr);
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  // Records what `work` does on the device, once. It is not done meanwhile: what its tensors hold
  // is known after a replay. It may neither wait for the device nor bring anything there from the
  // host. Throws Error: what it did that cannot be recorded.
  void record(const std::function<void()>& work);

  // Does it again, on LibTorch's current stream.
  void replay();

 private:
  struct Recorder;
  at::Device device_;
  std::unique_ptr<Recorder> recorder_;
};

}  // namespace dkdm::device
