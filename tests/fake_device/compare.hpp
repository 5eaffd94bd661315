// One computation on the fake device and on the CPU.
#pragma once

#include <ATen/ATen.h>

#include <catch2/catch.hpp>
#include <functional>
#include <vector>

#include "fake_device/fake_device.hpp"
#include "golden/u_fill.hpp"

namespace fake_device {

using at::Tensor;
using Tensors = std::vector<Tensor>;
using Function = std::function<Tensors(const Tensors&)>;

inline Tensor filled(std::int64_t i, at::IntArrayRef shape) {
  return dkdm::golden::u_fill(i, shape, 1.5);
}
// A batch in channels-last memory.
inline Tensor image(std::int64_t i) {
  return filled(i, {3, 8, 6, 6}).contiguous(at::MemoryFormat::ChannelsLast);
}

// Results and gradients of `function` on `device`, where floats of the inputs are leaves.
inline Tensors computed(const Function& function, const Tensors& inputs, at::Device device) {
  Tensors leaves;
  for (const Tensor& input : inputs) {
    leaves.push_back(input.detach().clone().to(device));
    if (leaves.back().is_floating_point()) leaves.back().requires_grad_();
  }
  Tensors results = function(leaves);
  Tensors all;
  for (std::size_t i = 0; i < results.size(); ++i) {
    all.push_back(results[i].detach());
    if (!results[i].requires_grad()) continue;
    Tensor slope = filled(100 + static_cast<std::int64_t>(i), results[i].sizes());
    if (slope.dim() == 4) slope = slope.contiguous(at::MemoryFormat::ChannelsLast);
    results[i].backward(slope.to(results[i].options()), /*retain_graph=*/true);
  }
  for (const Tensor& leaf : leaves)
    if (leaf.grad().defined()) all.push_back(leaf.grad());
  return all;
}

// All of them on the device, with the CPU's strides and bits.
inline void check_equal(const Tensors& on_device, const Tensors& on_cpu) {
  REQUIRE(on_device.size() == on_cpu.size());
  for (std::size_t i = 0; i < on_cpu.size(); ++i) {
    INFO("result " << i);
    CHECK(on_device[i].device() == device());
    CHECK(on_device[i].strides() == on_cpu[i].strides());
    CHECK(at::equal(on_device[i].cpu(), on_cpu[i]));
  }
}

}  // namespace fake_device
