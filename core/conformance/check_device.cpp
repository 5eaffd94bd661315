// Whether a network computes on another device than the CPU: an accelerator where there is one.
// Elsewhere LibTorch's device without memory tells most of it, though its operators take tensors of
// the CPU without a word: the arguments of every call are looked at.
#include <ATen/ATen.h>
#include <ATen/record_function.h>

#include <set>
#include <string_view>

#include "conformance/check_support.hpp"
#include "error_text.hpp"
#include "nn/meta.hpp"

namespace dkdm::conformance {
namespace {

// LibTorch's callbacks are plain functions, on the thread that is watched.
thread_local at::DeviceType watched = at::kCPU;
thread_local std::string mixture;  // the first call that had tensors of both; "" = none

// What moves tensors between devices, or asks the other for its shape or type alone, may see both.
bool may_mix(std::string_view name) {
  static const std::set<std::string_view> names{
      "aten::_copy_from", "aten::_index_put_impl_", "aten::_to_copy",   "aten::_unsafe_index",
      "aten::copy_",      "aten::expand_as",        "aten::index",      "aten::index_put",
      "aten::index_put_", "aten::reshape_as",       "aten::resize_as_", "aten::to",
      "aten::type_as",    "aten::view_as"};
  return names.contains(name);
}

std::unique_ptr<at::ObserverContext> look_at_call(const at::RecordFunction& call) {
  if (!mixture.empty() || may_mix(call.name())) return nullptr;
  bool there = false;
  std::string here;
  const auto look = [&](const at::Tensor& tensor, bool listed) {
    if (!tensor.defined()) return;
    if (tensor.device().type() == watched) there = true;
    else if (tensor.is_cpu() && (listed || tensor.dim() > 0)) here = text_of(tensor);
  };
  for (const c10::IValue& input : call.inputs()) {
    if (input.isTensor()) {
      look(input.toTensor(), false);
    } else if (input.isTensorList()) {
      for (const at::Tensor& tensor : input.toTensorVector()) look(tensor, true);
    }
  }
  if (there && !here.empty()) mixture = std::string(call.name()) + " gets " + here + " on the CPU";
  return nullptr;
}

class Watch {
 public:
  explicit Watch(at::DeviceType device)
      : handle_(at::addThreadLocalCallback(at::RecordFunctionCallback(look_at_call)
                                               .needsInputs(true)
                                               .scopes({at::RecordScope::FUNCTION}))) {
    watched = device;
    mixture.clear();
  }
  ~Watch() { at::removeCallback(handle_); }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

 private:
  at::RecordFunctionGuard enabled_;
  at::CallbackHandle handle_;
};

}  // namespace

void bring_to_device(const Subject& subject, torch::nn::Module& network) {
  if (subject.device.is_meta()) nn::to_meta(network);
  else network.to(subject.device);
}

std::string follow_input(const Subject& subject, const std::string& name,
                         const std::function<at::Tensor()>& compute) {
  const at::Device device = subject.device;
  const std::string where =
      subject.plugin.kind + " " + subject.plugin.name + ": " + name + " on " + device.str() + ": ";
  const std::string remedy =
      "what " + name +
      " makes must follow its input's options(): at::arange(n, x.options()), not "
      "at::arange(n); what it keeps it registers as a parameter or buffer";
  const at::NoGradGuard no_grad;
  at::Tensor out;
  std::string thrown;
  {
    const Watch watch(device.type());
    try {
      out = compute();
    } catch (...) {
      thrown = current_error_text();
    }
  }
  require(mixture.empty(), where + mixture + " beside tensors of the device it was given", remedy);
  // Not every operator is known there, and none has a value to look at.
  if (device.is_meta() && !thrown.empty())
    return "not known: without memory it cannot be computed (" + thrown + ")";
  require(thrown.empty(), where + "it threw: " + thrown, remedy);
  require(out.defined() && out.device().type() == device.type(),
          where + "it gave " + text_of(out) + " on " +
              (out.defined() ? out.device().str() : "no device"),
          remedy);
  return device.is_meta() ? "makes nothing on the CPU (tried without memory)"
                          : "computes on " + device.str();
}

std::string follow_inputs(const Subject& subject, Denoiser& network, const SampleShape& shape,
                          std::int64_t steps,
                          const std::vector<std::function<void()>>& before_forward) {
  bring_to_device(subject, network);
  const at::Tensor x = noisy_images(shape, 0, 2).to(subject.device);
  const at::Tensor t = spread_steps(0, 2, steps).to(subject.device);
  std::string seen;
  for (const auto& enter_mode : before_forward) {
    enter_mode();
    at::Tensor out;
    seen = follow_input(subject, "forward", [&] { return out = network.forward(x, t); });
    if (!subject.device.is_meta()) require_output(out, x);
  }
  return seen;
}

}  // namespace dkdm::conformance
