// IEEE f32 arithmetic for what an evaluator computes.
#pragma once

#include <ATen/Context.h>
#include <c10/core/Device.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include <array>

namespace dkdm::evaluators {

// While it lives nothing is cast to a shorter type, and no product or convolution on `device` takes
// TF32, whatever training has chosen: values of two runs are to compare. TF32 is a setting of the
// process, so one of these lives at a time; at::NoTF32Guard would be of this thread alone, where
// gradients have their own, and cuDNN does not ask it.
class ExactFloats {
 public:
  explicit ExactFloats(at::Device device) {
    if (!device.is_cuda()) return;
    for (Setting& setting : settings_) {
      setting.changed = context().float32Precision(at::Float32Backend::CUDA, setting.op) ==
                        at::Float32Precision::TF32;
      if (setting.changed) set(setting.op, at::Float32Precision::IEEE);
    }
  }
  ~ExactFloats() {
    for (const Setting& setting : settings_)
      if (setting.changed) set(setting.op, at::Float32Precision::TF32);
  }
  ExactFloats(const ExactFloats&) = delete;
  ExactFloats& operator=(const ExactFloats&) = delete;

 private:
  struct Setting {
    at::Float32Op op;
    bool changed = false;
  };

  static at::Context& context() { return at::globalContext(); }
  static void set(at::Float32Op op, at::Float32Precision precision) {
    context().setFloat32Precision(at::Float32Backend::CUDA, op, precision);
  }

  std::array<Setting, 2> settings_{{{at::Float32Op::CONV}, {at::Float32Op::MATMUL}}};
  c10::impl::ExcludeDispatchKeyGuard no_autocast_{c10::autocast_dispatch_keyset};
};

}  // namespace dkdm::evaluators
