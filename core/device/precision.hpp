// Precision that networks compute in. Weights, optimiser, losses, samplers and metrics are float32
// whatever it is.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <string>
#include <vector>

#include "dkdm/error.hpp"

namespace dkdm::device {

// fp32: IEEE float32. tf32: float32 whose matrix products and convolutions round their factors to
// 10 bits (CUDA alone). bf16, fp16: matrix products, convolutions and attention of that type,
// normalisation and what a network keeps apart (nn::FullPrecision) of float32.
enum class Precision { fp32, tf32, bf16, fp16 };

DKDM_API const std::vector<std::string>& precision_names();  // "fp32", …
// Of one of those names.
DKDM_API Precision precision_named(const std::string& name);

// Throws ConfigError(where) where `device` has no such arithmetic: the result would be that of
// another precision under this one's name.
DKDM_API void check_precision(Precision precision, at::Device device, const std::string& where);

// What networks compute on `device` in, of this thread, while it lives.
class DKDM_API PrecisionScope {
 public:
  PrecisionScope(Precision precision, at::Device device);
  ~PrecisionScope();
  PrecisionScope(const PrecisionScope&) = delete;
  PrecisionScope& operator=(const PrecisionScope&) = delete;

 private:
  at::DeviceType type_;
  bool before_, tf32_;
  at::ScalarType dtype_before_;
};

// Of the backward pass of what was computed in `precision`: its operators take the types of the
// tensors that the forward left.
inline Precision backward_of(Precision precision) {
  return precision == Precision::tf32 ? Precision::tf32 : Precision::fp32;
}

}  // namespace dkdm::device
