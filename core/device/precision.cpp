#include "device/precision.hpp"

#include <ATen/Context.h>
#include <ATen/autocast_mode.h>

#include <algorithm>

namespace dkdm::device {
namespace {

void set_tf32(bool on) {
  at::globalContext().setFloat32Precision(
      at::Float32Backend::CUDA, at::Float32Op::ALL,
      on ? at::Float32Precision::TF32 : at::Float32Precision::IEEE);
  at::globalContext().setAllowTF32CuDNN(on);
}

}  // namespace

const std::vector<std::string>& precision_names() {
  static const std::vector<std::string> kNames{"fp32", "tf32", "bf16", "fp16"};
  return kNames;
}

Precision precision_named(const std::string& name) {
  const auto& names = precision_names();
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) throw ConfigError("there is no precision \"" + name + "\"");
  return static_cast<Precision>(found - names.begin());
}

void check_precision(Precision precision, at::Device device, const std::string& where) {
  if (precision == Precision::tf32 && !device.is_cuda())
    throw ConfigError(where, "tf32 is of CUDA devices, and networks compute on " + device.str() +
                                 "; expected fp32, bf16 or fp16");
}

PrecisionScope::PrecisionScope(Precision precision, at::Device device)
    : type_(device.type()), before_(at::autocast::is_autocast_enabled(type_)),
      tf32_(precision == Precision::tf32), dtype_before_(at::autocast::get_autocast_dtype(type_)) {
  const bool reduced = precision == Precision::bf16 || precision == Precision::fp16;
  at::autocast::set_autocast_enabled(type_, reduced);
  if (reduced)
    at::autocast::set_autocast_dtype(type_,
                                     precision == Precision::bf16 ? at::kBFloat16 : at::kHalf);
  at::autocast::increment_nesting();
  if (tf32_) set_tf32(true);
}

PrecisionScope::~PrecisionScope() {
  if (tf32_) set_tf32(false);
  // Weights that were rounded for the forwards of this scope: they change before the next.
  if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
  at::autocast::set_autocast_dtype(type_, dtype_before_);
  at::autocast::set_autocast_enabled(type_, before_);
}

}  // namespace dkdm::device
