// Operators of the fake device: the CPU's kernels on the same memory.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>

#include <unordered_map>

namespace fake_device {

// CPU tensors on the memory of device tensors, with their sizes and strides.
class Aliases {
 public:
  // The alias of a device tensor, the same for the same tensor. Anything else as it is.
  at::Tensor of(const at::Tensor& tensor);
  // The device tensor that `result` is the alias of; undefined for none. Throws for a view of one.
  at::Tensor original(const at::Tensor& result, const std::string& op) const;
  // Gives `tensor` what became of its alias: sizes, strides, and content that lies elsewhere.
  void write_back(const at::Tensor& tensor) const;

 private:
  struct Pair {
    at::Tensor original, alias;
  };
  std::unordered_map<c10::TensorImpl*, Pair> by_original_;
  std::unordered_map<c10::StorageImpl*, c10::Storage> storages_;  // by the device's
};

// A device tensor with a CPU tensor's sizes, strides and content. Not a transfer.
at::Tensor moved(const at::Tensor& result);

// Any operator without a kernel of its own.
void fallback(const c10::OperatorHandle& op, torch::jit::Stack* stack);

std::string full_name(const c10::OperatorHandle& op);  // "aten::add.Tensor"

}  // namespace fake_device
