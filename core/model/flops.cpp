#include "model/flops.hpp"

#include <ATen/ATen.h>
#include <ATen/record_function.h>

#include <string_view>
#include <unordered_map>

#include "dkdm/device.hpp"

namespace dkdm::model {
namespace {

using Inputs = c10::ArrayRef<const c10::IValue>;

// Multiply-adds of a call: `total`, and `each_output` for every element of its result.
struct Products {
  std::int64_t total = 0, each_output = 0;
};

// The left factor is argument `left`: each element of the result is a sum along its last dimension.
template <std::size_t left>
Products product(Inputs inputs) {
  return {0, inputs[left].toTensor().size(-1)};
}

// The batch is summed over as well: batch1 [B,N,M], batch2 [B,M,P] -> [N,P].
Products summed_batches(Inputs inputs) {
  return {inputs[1].toTensor().numel() * inputs[2].toTensor().size(2), 0};
}

// weight [C_out, C_in / groups, kernel …].
Products convolution(Inputs inputs) {
  const at::Tensor weight = inputs[1].toTensor();
  return {0, weight.numel() / weight.size(0)};
}

// weight [C_in, C_out / groups, kernel …]: every element of the input meets a row of it.
Products transposed_convolution(Inputs inputs) {
  const at::Tensor weight = inputs[1].toTensor();
  return {inputs[0].toTensor().numel() * (weight.numel() / weight.size(0)), 0};
}

Products any_convolution(Inputs inputs) {
  constexpr std::size_t kTransposed = 6;
  return inputs[kTransposed].toBool() ? transposed_convolution(inputs) : convolution(inputs);
}

// q [.., L, D], k [.., S, D], v [.., S, E]: q k^T, then its product with v.
Products attention(Inputs inputs) {
  const std::int64_t keys = inputs[1].toTensor().size(-2);
  return {inputs[0].toTensor().numel() * keys, keys};
}

using Rule = Products (*)(Inputs);

Rule rule_of(std::string_view name) {
  static const std::unordered_map<std::string_view, Rule> kRules = {
      {"aten::addbmm", summed_batches},
      {"aten::addmm", product<1>},
      {"aten::addmv", product<1>},
      {"aten::baddbmm", product<1>},
      {"aten::bmm", product<0>},
      {"aten::_convolution", any_convolution},
      {"aten::conv1d", convolution},
      {"aten::conv2d", convolution},
      {"aten::conv3d", convolution},
      {"aten::conv_transpose1d", transposed_convolution},
      {"aten::conv_transpose2d", transposed_convolution},
      {"aten::conv_transpose3d", transposed_convolution},
      {"aten::convolution", any_convolution},
      {"aten::dot", product<0>},
      {"aten::linear", product<0>},
      {"aten::matmul", product<0>},
      {"aten::mm", product<0>},
      {"aten::mv", product<0>},
      {"aten::scaled_dot_product_attention", attention},
  };
  const auto found = kRules.find(name);
  return found == kRules.end() ? nullptr : found->second;
}

// LibTorch's callbacks are plain functions; both run on the thread that `count_flops` watches.
thread_local std::int64_t multiply_adds = 0;
thread_local int open_calls = 0;

struct Call : at::ObserverContext {
  Products products;
};

// An operator that is made of others shows those as well: only the outermost counts.
std::unique_ptr<at::ObserverContext> begin_call(const at::RecordFunction& function) {
  const Rule rule = rule_of(function.name());
  if (!rule) return nullptr;
  auto call = std::make_unique<Call>();
  if (open_calls++ == 0) call->products = rule(function.inputs());
  return call;
}

void end_call(const at::RecordFunction& function, at::ObserverContext* context) {
  if (!context) return;
  --open_calls;
  const Products& products = static_cast<Call*>(context)->products;
  multiply_adds += products.total;
  for (const c10::IValue& output : function.outputs())
    multiply_adds += products.each_output * output.toTensor().numel();
}

// Watches this thread's operators while it lives.
class Watch {
 public:
  Watch()
      : handle_(at::addThreadLocalCallback(at::RecordFunctionCallback(begin_call, end_call)
                                               .needsInputs(true)
                                               .needsOutputs(true)
                                               .scopes({at::RecordScope::FUNCTION}))),
        before_(multiply_adds) {}
  ~Watch() { at::removeCallback(handle_); }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  std::int64_t flops() const { return 2 * (multiply_adds - before_); }

 private:
  at::CallbackHandle handle_;
  std::int64_t before_;
};

}  // namespace

std::int64_t count_flops(const std::function<void()>& work) {
  const at::RecordFunctionGuard enabled;
  const Watch watch;
  work();
  return watch.flops();
}

std::int64_t forward_flops(Denoiser& network, const SampleShape& shape) {
  const bool training = network.is_training();
  network.eval();
  const at::NoGradGuard no_grad;
  const at::Device device = device_of(network);
  const auto x_t = at::zeros(shape.batch(1), at::TensorOptions().dtype(at::kFloat).device(device));
  const auto t = at::zeros({1}, at::TensorOptions().dtype(at::kLong).device(device));
  const std::int64_t flops = count_flops([&] { network.forward(x_t, t); });
  network.train(training);
  return flops;
}

}  // namespace dkdm::model
