// CUDA kernels from their source, compiled on the machine that they run on: by NVRTC and the
// driver, which are looked for when the program runs. Building needs neither of them, nor nvcc.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "dkdm/error.hpp"

namespace dkdm::cuda {

// Files that together have NVRTC and the driver, as dlopen takes them; those that are not there are
// passed over. LibTorch's own come first.
DKDM_API std::vector<std::string> libraries();

// PTX of CUDA C++ for devices of compute capability `arch` (80 = 8.0) and later, by the NVRTC in
// `libraries`. No multiplication is contracted with an addition. Needs no device. Throws Error:
// there is no NVRTC, or what it says of the source.
DKDM_API std::string ptx(const std::vector<std::string>& libraries, const std::string& source,
                         int arch);

// The kernels of one source on one device. Threads: any, as LibTorch's current stream is of one.
class DKDM_API Kernels {
 public:
  // Compiles `source` for `device` by what is in `libraries`. Throws Error as `ptx`, and where the
  // driver refuses.
  Kernels(const std::vector<std::string>& libraries, const std::string& source, at::Device device);
  ~Kernels();
  Kernels(const Kernels&) = delete;
  Kernels& operator=(const Kernels&) = delete;

  // Starts at least `threads` threads of `kernel` in blocks of one dimension, on LibTorch's current
  // stream. `arguments` are addresses of the kernel's arguments, in order. Throws Error.
  void launch(const char* kernel, std::int64_t threads, std::vector<void*> arguments) const;

 private:
  struct Driver;
  std::unique_ptr<const Driver> driver_;
};

}  // namespace dkdm::cuda
