// An accelerator for tests on machines without one: LibTorch's PrivateUse1 as device "fake". It
// computes with the kernels of the CPU, so results have the CPU's bits, and refuses what CUDA would
// refuse:
//   - tensors of two devices in one operator. As with CUDA, operators without a device check take
//     CPU tensors of no dimension, but not inside lists, and indexing takes indices of the CPU;
//   - its memory in the hands of host code: data_ptr() is an address that faults, and the report
//     names the operator that ran last;
//   - random numbers of a stateful generator.
// What is slow on an accelerator is counted: transfers, and calls that wait for the device.
//
// Linked into a test program it is there from the start; into the real one it comes by LD_PRELOAD
// of libfake-device.so. FAKE_DEVICE_BYTES is what it holds (64 GiB). Never installed. Threads: any.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace fake_device {

at::Device device();  // "fake:0", the only one

struct Transfers {
  std::int64_t calls = 0, bytes = 0;
  // Those that wait for the device: to it unless non_blocking, from it unless also into pinned
  // memory.
  std::int64_t blocking = 0;
};

struct Counters {
  Transfers to_device, to_host;
  // What else made the host wait -> how often: operators whose result is a host's number or a shape
  // ("aten::_local_scalar_dense" of item(), "aten::nonzero", indexing by a mask, …) and
  // "synchronize" of a device, stream or event.
  std::map<std::string, std::int64_t> waits;
  std::set<std::string> operators;  // that were called, "aten::add.Tensor"
  std::int64_t launches = 0;        // of operators, and of recorded work that was done again

  std::int64_t synchronisations() const;  // the sum of waits
};

Counters counters();  // since the last reset
void reset_counters();

// While it lives, operators of this project and attention run on the device by their composites of
// LibTorch's operators, the former as they do on CUDA; without it by their kernels for the CPU, for
// its bits. One at a time.
class Composites {
 public:
  Composites();
  ~Composites();
  Composites(const Composites&) = delete;
  Composites& operator=(const Composites&) = delete;
};

// While it lives, work that was handed to the device is not done yet whenever somebody asks without
// waiting (an event's query), as on one that is behind. One at a time.
class Behind {
 public:
  Behind();
  ~Behind();
  Behind(const Behind&) = delete;
  Behind& operator=(const Behind&) = delete;
};

// Whether this LibTorch came with native_functions.yaml, which says what CUDA has (wheels do;
// archives do not). Without it any operator takes CPU tensors of no dimension.
bool knows_cuda();
// Those of `operators` that CUDA has neither a kernel nor a composite for. Throws without
// knows_cuda().
std::vector<std::string> missing_on_cuda(const std::set<std::string>& operators);

}  // namespace fake_device
