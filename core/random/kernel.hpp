// The bulk generators of fill.hpp as one CUDA kernel each, compiled when the first number is asked
// for: the same bits as portable.hpp's operators in one launch instead of some 200.
#pragma once

#include <string>
#include <vector>

#include "cuda/runtime.hpp"
#include "random/portable.hpp"

namespace dkdm::random {

class DKDM_API NumberKernels {
 public:
  // Those of `device`, or null where numbers are made by operators: a device without CUDA, or
  // without NVRTC, or whose kernels gave other bits in a trial of some thousand numbers when this
  // was first called for it, which the log says once.
  static const NumberKernels* of(at::Device device);

  // As portable_normal, portable_uniform and portable_mask.
  at::Tensor normal(const Key& key, const Step& step, const at::Tensor& samples,
                    std::int64_t length) const;
  at::Tensor uniform(const Key& key, const Step& step, std::int64_t first,
                     std::int64_t count) const;
  at::Tensor mask(const Key& key, const Step& step, std::uint32_t layer, std::int64_t first,
                  std::int64_t rows, std::int64_t length, std::uint32_t threshold,
                  float scale) const;

  // For a test of `of` without a GPU: looks for NVRTC and a driver in `libraries` instead, also for
  // devices of `type`, from now on.
  static void look_in(std::vector<std::string> libraries, at::DeviceType type);

 private:
  NumberKernels(const std::vector<std::string>& libraries, at::Device device);
  // What is wrong with their numbers, "" = nothing.
  std::string trial() const;

  at::Device device_;
  cuda::Kernels kernels_;
};

}  // namespace dkdm::random
