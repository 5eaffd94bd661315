// Makes LibTorch know the fake device: allocator, guard, hooks, and the operators that the fallback
// cannot be: what makes tensors, views and copies.
#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/SDPBackend.h>
#include <ATen/autocast_mode.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <list>
#include <map>
#include <memory>

#include "fake_device/fake_device.hpp"
#include "fake_device/fallback.hpp"
#include "fake_device/graph.hpp"
#include "fake_device/memory.hpp"
#include "fake_device/record.hpp"

namespace fake_device {
namespace {

using at::Tensor;

constexpr auto kType = at::kPrivateUse1;
const c10::DispatchKeySet kKeys(c10::DispatchKey::PrivateUse1);

std::atomic<bool> behind = false;

// One device with one stream, on which everything has happened as soon as it is asked for.
class Guard final : public c10::impl::DeviceGuardImplInterface {
 public:
  c10::DeviceType type() const override { return kType; }
  c10::Device exchangeDevice(c10::Device) const override { return device(); }
  c10::Device getDevice() const override { return device(); }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const override { return stream(); }
  c10::Stream getDefaultStream(c10::Device) const override { return stream(); }
  c10::Stream getStreamFromGlobalPool(c10::Device, bool) const override { return stream(); }
  c10::Stream getNewStream(c10::Device, int) const override { return stream(); }
  c10::Stream exchangeStream(c10::Stream) const override { return stream(); }
  void* getStreamNativeHandle(const c10::Stream) const override { return nullptr; }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  // An event is the time at which it was recorded, in nanoseconds.
  void record(void** event, const c10::Stream&, c10::DeviceIndex, c10::EventFlag) const override {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    *event =
        reinterpret_cast<void*>(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
  }
  double elapsedTime(void* from, void* to, c10::DeviceIndex) const override {
    return 1e-6 *
           double(reinterpret_cast<std::intptr_t>(to) - reinterpret_cast<std::intptr_t>(from));
  }
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return !behind; }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeEvent(void*) const override { count_wait("synchronize"); }
  void synchronizeStream(const c10::Stream&) const override { count_wait("synchronize"); }
  void synchronizeDevice(c10::DeviceIndex) const override { count_wait("synchronize"); }

 private:
  static c10::Stream stream() { return c10::Stream(c10::Stream::DEFAULT, device()); }
};

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(at::DeviceIndex) const override { return true; }
  at::DeviceIndex deviceCount() const override { return 1; }
  at::DeviceIndex getCurrentDevice() const override { return 0; }
  void setCurrentDevice(at::DeviceIndex) const override {}
  at::DeviceIndex exchangeDevice(at::DeviceIndex) const override { return 0; }
  at::DeviceIndex maybeExchangeDevice(at::DeviceIndex) const override { return 0; }
  at::Device getDeviceFromPtr(void*) const override { return device(); }
  bool isPinnedPtr(const void* address) const override { return is_pinned(address); }
  at::Allocator* getPinnedMemoryAllocator() const override { return pinned_allocator(); }
  const at::Generator& getDefaultGenerator(at::DeviceIndex) const override { no_generator(); }
  at::Generator getNewGenerator(at::DeviceIndex) const override { no_generator(); }
  void resizePrivateUse1Bytes(const c10::Storage& storage, std::size_t bytes) const override {
    resize_storage(*storage.unsafeGetStorageImpl(), bytes);
  }

  [[noreturn]] static void no_generator() {
    TORCH_CHECK(false, "device ", device(),
                " has no stateful generator: numbers of this project "
                "are functions of their place");
  }
};

Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
             std::optional<at::Device>, std::optional<bool>,
             std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, device_allocator(), kKeys, c10::dtype_or_default(dtype),
                                   format);
}

Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride,
                     std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                     std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, device_allocator(), kKeys,
                                           c10::dtype_or_default(dtype));
}

// LibTorch's own copies the content by memcpy.
const Tensor& resize_(const Tensor& self, at::IntArrayRef size,
                      std::optional<at::MemoryFormat> format) {
  c10::TensorImpl& impl = *self.unsafeGetTensorImpl();
  if (self.sizes() != size) impl.set_sizes_contiguous(size);
  if (format) impl.empty_tensor_restride(*format);
  const auto bytes =
      static_cast<std::size_t>(impl.storage_offset() + impl.numel()) * self.itemsize();
  if (self.storage().nbytes() < bytes)
    resize_storage(*self.storage().unsafeGetStorageImpl(), bytes);
  return self;
}

Tensor copy_from(const Tensor& self, const Tensor& destination, bool non_blocking) {
  const Running running("aten::copy_");
  Aliases aliases;
  const Tensor from = aliases.of(self), to = aliases.of(destination);
  if (self.is_cpu()) {
    count_to_device(self.nbytes(), !non_blocking);
  } else if (destination.is_cpu()) {
    count_to_host(self.nbytes(),
                  !non_blocking || !is_pinned(destination.storage().data_ptr().get()));
  }
  to.copy_(from);
  if (!self.is_cpu() && !destination.is_cpu()) {
    add_to_recording({}, [self, destination] {
      fake_device::copy_from(self, destination, true);
      return std::vector<Tensor>();
    });
  }
  return destination;
}

Tensor copy_from_and_resize(const Tensor& self, const Tensor& destination) {
  if (self.sizes() != destination.sizes()) destination.resize_(self.sizes());
  return copy_from(self, destination, /*non_blocking=*/false);
}

// Lets Module::to move parameters here, which LibTorch grants its own devices only.
bool has_compatible_shallow_copy_type(const Tensor& self, const Tensor& from) {
  const auto dense = [](const Tensor& tensor) {
    return tensor.layout() == at::kStrided && (tensor.is_cpu() || tensor.device().type() == kType);
  };
  return dense(self) && dense(from);
}

void same_device(const char* op, const Tensor& tensor) {
  TORCH_CHECK(!tensor.defined() || tensor.device() == device(), op, ": argument ", tensor.sizes(),
              " is on ", tensor.device(), ", expected ", device());
}

Tensor convolution(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
                   at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation,
                   bool transposed, at::IntArrayRef output_padding, std::int64_t groups) {
  const Running running("aten::convolution");
  const Tensor offset = bias.value_or(Tensor());
  for (const Tensor* tensor : {&input, &weight, &offset}) same_device("aten::convolution", *tensor);
  Aliases aliases;
  const Tensor result =
      moved(at::convolution(aliases.of(input), aliases.of(weight), aliases.of(offset), stride,
                            padding, dilation, transposed, output_padding, groups));
  add_to_recording({result}, [=, stride = stride.vec(), padding = padding.vec(),
                              dilation = dilation.vec(), output_padding = output_padding.vec()] {
    return std::vector<Tensor>{fake_device::convolution(
        input, weight, bias, stride, padding, dilation, transposed, output_padding, groups)};
  });
  return result;
}

std::tuple<Tensor, Tensor, Tensor> convolution_backward(
    const Tensor& gradient, const Tensor& input, const Tensor& weight, at::IntArrayRef stride,
    at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed,
    at::IntArrayRef output_padding, std::int64_t groups, std::array<bool, 3> wanted) {
  const Running running("aten::convolution_backward");
  for (const Tensor* tensor : {&gradient, &input, &weight})
    same_device("aten::convolution_backward", *tensor);
  Aliases aliases;
  const std::vector<std::int64_t> channels{gradient.size(1)};
  const auto [dx, dweight, dbias] = at::convolution_backward(
      aliases.of(gradient), aliases.of(input), aliases.of(weight), channels, stride, padding,
      dilation, transposed, output_padding, groups, wanted);
  const auto given = [](const Tensor& tensor) { return tensor.defined() ? moved(tensor) : tensor; };
  const std::vector<Tensor> results{given(dx), given(dweight), given(dbias)};
  add_to_recording(results, [=, stride = stride.vec(), padding = padding.vec(),
                             dilation = dilation.vec(), output_padding = output_padding.vec()] {
    const auto [x, w, b] =
        fake_device::convolution_backward(gradient, input, weight, stride, padding, dilation,
                                          transposed, output_padding, groups, wanted);
    return std::vector<Tensor>{x, w, b};
  });
  return {results[0], results[1], results[2]};
}

std::atomic<bool> by_composite = false;

// As on the CPU, for its bits: by the fused kernel wherever that one would be chosen. LibTorch's
// choice for this kind of device is the composite.
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v,
                 const std::optional<Tensor>& mask, double dropout, bool causal,
                 std::optional<double> scale, bool grouped) {
  const auto choice = at::_fused_sdp_choice(q, k, v, mask, dropout, causal, scale, grouped);
  if (!by_composite && choice == static_cast<std::int64_t>(at::SDPBackend::flash_attention)) {
    return std::get<0>(
        at::_scaled_dot_product_flash_attention_for_cpu(q, k, v, dropout, causal, mask, scale));
  }
  return std::get<0>(
      at::_scaled_dot_product_attention_math(q, k, v, mask, dropout, causal, {}, scale, grouped));
}

// Composed of operators with gradients, so the same for autograd.
TORCH_LIBRARY_IMPL(aten, AutogradPrivateUse1, library) {
  library.impl("scaled_dot_product_attention", attention);
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("scaled_dot_product_attention", attention);
  library.impl("empty.memory_format", empty);
  library.impl("empty_strided", empty_strided);
  library.impl("resize_", resize_);
  library.impl("as_strided", at::native::as_strided_tensorimpl);
  library.impl("view", at::native::view);
  library.impl("_reshape_alias", at::native::_reshape_alias);
  library.impl("unfold", at::native::unfold);
  library.impl("set_.source_Tensor", at::native::set_tensor_);
  library.impl("set_.source_Storage", at::native::set_);
  library.impl("set_.source_Storage_storage_offset", at::native::set_storage_cpu_);
  library.impl("_copy_from", copy_from);
  library.impl("_copy_from_and_resize", copy_from_and_resize);
  library.impl("_has_compatible_shallow_copy_type", has_compatible_shallow_copy_type);
  library.impl("convolution_overrideable", convolution);
  library.impl("convolution_backward_overrideable", convolution_backward);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>());
}

// Autocast, with the operators that it casts on CUDA and this project's networks call.
TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFallthrough());
}

TORCH_LIBRARY_IMPL(aten, AutocastPrivateUse1, m) {
  KERNEL_PRIVATEUSEONE(conv1d, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(conv2d, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(linear, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(matmul, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(mm, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(bmm, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(addmm, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(baddbmm, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(scaled_dot_product_attention, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(layer_norm, fp32)
  KERNEL_PRIVATEUSEONE(exp, fp32)
  KERNEL_PRIVATEUSEONE(addcmul, promote)
  KERNEL_PRIVATEUSEONE(cat, promote)
  KERNEL_PRIVATEUSEONE(stack, promote)
}

using Libraries = std::list<torch::Library>;

// LibTorch would run an operator with a kernel for the CPU and a composite by the composite, whose
// bits are others and whose refusals name an operator inside. So these get the fallback by name,
// those of LibTorch (`own` = false) or those of this project.
std::unique_ptr<Libraries> fallback_for_composites(bool own) {
  auto libraries = std::make_unique<Libraries>();
  std::map<std::string, torch::Library*> by_namespace;
  auto& dispatcher = c10::Dispatcher::singleton();
  for (const c10::OperatorName& name : dispatcher.getAllOpNames()) {
    const auto op = dispatcher.findSchema(name);
    const std::string space = name.name.substr(0, name.name.find("::"));
    if (!op || (own ? space != "dkdm" : space != "aten")) continue;
    const auto has = [&](c10::DispatchKey key) { return op->hasKernelForDispatchKey(key); };
    if (!has(c10::DispatchKey::CPU) || has(c10::DispatchKey::PrivateUse1)) continue;
    if (!has(c10::DispatchKey::CompositeExplicitAutograd) &&
        !has(c10::DispatchKey::CompositeExplicitAutogradNonFunctional))
      continue;
    const auto& returns = op->schema().returns();
    if (std::any_of(returns.begin(), returns.end(), [](const c10::Argument& result) {
          return result.alias_info() && !result.alias_info()->isWrite();
        }))
      continue;  // a view
    torch::Library*& library = by_namespace[space];
    if (!library) {
      library = &libraries->emplace_back(torch::Library::IMPL, space, c10::DispatchKey::PrivateUse1,
                                         __FILE__, __LINE__);
    }
    library->impl(full_name(*op).c_str(), torch::CppFunction::makeFromBoxedFunction<&fallback>());
  }
  return libraries;
}

std::unique_ptr<Libraries>& own_operators() {
  static auto* libraries = new std::unique_ptr<Libraries>();  // never freed: the dispatcher may be
  return *libraries;                                          // gone before
}

// Before main, after LibTorch and the project's library have registered their operators.
[[maybe_unused]] const bool kReady = [] {
  c10::SetAllocator(kType, device_allocator());
  c10::impl::registerDeviceGuard(kType, new Guard());
  at::RegisterPrivateUse1HooksInterface(new Hooks());
  c10::register_privateuse1_backend("fake");
  [[maybe_unused]] static auto* of_libtorch = fallback_for_composites(/*own=*/false).release();
  own_operators() = fallback_for_composites(/*own=*/true);
  return true;
}();

}  // namespace

at::Device device() { return {kType, 0}; }

Behind::Behind() { behind = true; }
Behind::~Behind() { behind = false; }

Composites::Composites() {
  by_composite = true;
  own_operators().reset();
}

Composites::~Composites() {
  by_composite = false;
  own_operators() = fallback_for_composites(/*own=*/true);
}

}  // namespace fake_device
