#include "fake_device/fallback.hpp"

#include <ATen/EmptyTensor.h>
#include <ATen/core/ivalue.h>
#include <ATen/ops/empty_strided.h>

#include <set>
#include <string>
#include <vector>

#include "fake_device/fake_device.hpp"
#include "fake_device/graph.hpp"
#include "fake_device/memory.hpp"
#include "fake_device/native_functions.hpp"
#include "fake_device/record.hpp"

namespace fake_device {
namespace {

bool on_device(const at::Tensor& tensor) {
  return tensor.defined() && tensor.device().type() == at::kPrivateUse1;
}

c10::Storage host_storage(void* data, std::size_t bytes) {
  return c10::make_intrusive<c10::StorageImpl>(c10::StorageImpl::use_byte_size_t(), bytes,
                                               c10::DataPtr(data, at::kCPU),
                                               c10::GetAllocator(at::kCPU), /*resizable=*/true);
}

at::Tensor host_tensor(const c10::Storage& storage, const at::Tensor& like) {
  auto tensor = at::detail::make_tensor<c10::TensorImpl>(
      c10::Storage(storage), c10::DispatchKeySet(c10::DispatchKey::CPU), like.dtype());
  tensor.unsafeGetTensorImpl()->set_storage_offset(like.storage_offset());
  tensor.unsafeGetTensorImpl()->set_sizes_and_strides(like.sizes(), like.strides());
  return tensor;
}

// Operators that make the host wait for a number or a shape.
bool waits(const std::string& name) {
  static const std::set<std::string> names{"aten::_local_scalar_dense",
                                           "aten::nonzero",
                                           "aten::masked_select",
                                           "aten::is_nonzero",
                                           "aten::equal",
                                           "aten::bincount",
                                           "aten::_unique2",
                                           "aten::unique_dim",
                                           "aten::unique_consecutive",
                                           "aten::_unique",
                                           "aten::nonzero_numpy",
                                           "aten::repeat_interleave.Tensor"};
  return names.contains(name);
}

bool indexes(const std::string& name) {
  return name.starts_with("aten::index.") || name.starts_with("aten::index_put") ||
         name.starts_with("aten::_index_put_impl") || name.starts_with("aten::_unsafe_index");
}

bool is_mask(const at::Tensor& index) {
  return index.scalar_type() == at::kBool || index.scalar_type() == at::kByte;
}

// One call of an operator.
class Call {
 public:
  Call(const c10::OperatorHandle& op, torch::jit::Stack* stack)
      : op_(op), schema_(op.schema()), name_(full_name(op)), running_(name_), stack_(*stack),
        begin_(stack->size() - schema_.arguments().size()) {}

  void run() {
    TORCH_CHECK(!op_.hasTag(at::Tag::nondeterministic_seeded) ||
                    name_ == "aten::_fused_sdp_choice" || attends(),
                name_, ": draws from a stateful generator, which device ", device(),
                " does not have");
    if (waits(name_)) count_wait(name_);
    const std::size_t count = schema_.arguments().size();
    for (std::size_t i = 0; i < count; ++i) take(schema_.arguments()[i], stack_[begin_ + i]);
    op_.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), &stack_);
    for (const at::Tensor& tensor : written_) aliases_.write_back(tensor);
    for (std::size_t i = stack_.size() - schema_.returns().size(); i < stack_.size(); ++i)
      give(stack_[i]);
  }

 private:
  // Attention names a generator for its dropout, which nobody asks for here.
  bool attends() const { return name_.starts_with("aten::_scaled_dot_product"); }

  [[noreturn]] void refuse(const c10::Argument& argument, const at::Tensor& tensor,
                           const std::string& where) const {
    TORCH_CHECK(false, name_, ": ", where, argument.name(), " ", tensor.sizes(), " is on ",
                tensor.device(), ", expected ", device());
  }

  // Makes the argument what the CPU's kernel takes.
  void take(const c10::Argument& argument, c10::IValue& value) {
    const bool writes = argument.alias_info() && argument.alias_info()->isWrite();
    if (value.isTensor()) {
      const at::Tensor tensor = value.toTensor();
      if (!tensor.defined()) return;
      const bool number = tensor.is_cpu() && tensor.dim() == 0;
      if (!on_device(tensor) && (writes || !number || !checks_devices_itself(name_)))
        refuse(argument, tensor, "argument ");
      if (writes) written_.push_back(tensor);
      value = aliases_.of(tensor);
    } else if (value.isTensorList()) {
      c10::List<at::Tensor> taken;
      for (const at::Tensor& tensor : value.toTensorVector()) {
        if (tensor.defined() && !on_device(tensor)) refuse(argument, tensor, "in the list ");
        taken.push_back(aliases_.of(tensor));
      }
      value = std::move(taken);
    } else if (value.isOptionalTensorList()) {
      c10::List<std::optional<at::Tensor>> taken;
      for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorVector()) {
        if (!tensor || !tensor->defined()) {
          taken.push_back(tensor);
          continue;
        }
        if (on_device(*tensor)) {
          if (indexes(name_) && is_mask(*tensor)) count_wait(name_ + " by a mask");
        } else if (indexes(name_) && tensor->is_cpu()) {
          count_to_device(tensor->nbytes(), /*blocking=*/true);
        } else {
          refuse(argument, *tensor, "in the list ");
        }
        taken.push_back(aliases_.of(*tensor));
      }
      value = std::move(taken);
    } else if (value.isDevice() && value.toDevice().type() == at::kPrivateUse1) {
      value = at::Device(at::kCPU);
    }
  }

  void give(c10::IValue& value) const {
    if (value.isTensor()) {
      value = given(value.toTensor());
    } else if (value.isTensorList()) {
      c10::List<at::Tensor> all;
      for (const at::Tensor& tensor : value.toTensorVector()) all.push_back(given(tensor));
      value = std::move(all);
    }
  }

  at::Tensor given(const at::Tensor& result) const {
    if (!result.defined()) return result;
    const at::Tensor original = aliases_.original(result, name_);
    return original.defined() ? original : moved(result);
  }

  const c10::OperatorHandle& op_;
  const c10::FunctionSchema& schema_;
  std::string name_;
  Running running_;
  torch::jit::Stack& stack_;
  std::size_t begin_;
  Aliases aliases_;
  std::vector<at::Tensor> written_;
};

}  // namespace

at::Tensor Aliases::of(const at::Tensor& tensor) {
  if (!on_device(tensor)) return tensor;
  if (const auto found = by_original_.find(tensor.unsafeGetTensorImpl());
      found != by_original_.end())
    return found->second.alias;
  const c10::Storage& own = tensor.storage();
  auto& storage = storages_[own.unsafeGetStorageImpl()];
  if (!storage) storage = host_storage(readable(own.data_ptr().get()), own.nbytes());
  const at::Tensor alias = host_tensor(storage, tensor);
  if (tensor.unsafeGetTensorImpl()->is_wrapped_number())
    alias.unsafeGetTensorImpl()->set_wrapped_number(true);
  by_original_[tensor.unsafeGetTensorImpl()] = {tensor, alias};
  return alias;
}

at::Tensor Aliases::original(const at::Tensor& result, const std::string& op) const {
  for (const auto& [impl, pair] : by_original_)
    if (pair.alias.is_same(result)) return pair.original;
  for (const auto& [impl, storage] : storages_) {
    TORCH_CHECK(storage.unsafeGetStorageImpl() != result.storage().unsafeGetStorageImpl(), op,
                ": gives a view of its argument; the fake device needs a kernel for it");
  }
  return {};
}

void Aliases::write_back(const at::Tensor& tensor) const {
  const at::Tensor& alias = by_original_.at(tensor.unsafeGetTensorImpl()).alias;
  const bool grown =
      alias.storage().data_ptr().get() != readable(tensor.storage().data_ptr().get());
  if (grown) {
    c10::StorageImpl& storage = *tensor.storage().unsafeGetStorageImpl();
    resize_storage(storage, alias.storage().nbytes());
    if (alias.storage().nbytes() > 0) {
      std::memcpy(readable(storage.data_ptr().get()), alias.storage().data_ptr().get(),
                  alias.storage().nbytes());
    }
  }
  if (tensor.sizes() != alias.sizes() || tensor.strides() != alias.strides())
    tensor.unsafeGetTensorImpl()->set_sizes_and_strides(alias.sizes(), alias.strides());
}

at::Tensor moved(const at::Tensor& result) {
  const at::Tensor tensor =
      at::empty_strided(result.sizes(), result.strides(), result.options().device(device()));
  Aliases aliases;
  aliases.of(tensor).copy_(result);
  return tensor;
}

void fallback(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  if (!recording()) return Call(op, stack).run();
  const auto arguments = static_cast<std::ptrdiff_t>(op.schema().arguments().size());
  const torch::jit::Stack given(stack->end() - arguments, stack->end());
  Call(op, stack).run();
  const auto tensors = [count = op.schema().returns().size()](const torch::jit::Stack& after) {
    std::vector<at::Tensor> all;
    for (std::size_t i = after.size() - count; i < after.size(); ++i) {
      if (after[i].isTensor()) all.push_back(after[i].toTensor());
      if (after[i].isTensorList())
        for (const at::Tensor& tensor : after[i].toTensorVector()) all.push_back(tensor);
    }
    return all;
  };
  add_to_recording(tensors(*stack), [op, given, tensors] {
    torch::jit::Stack again = given;
    Call(op, &again).run();
    return tensors(again);
  });
}

std::string full_name(const c10::OperatorHandle& op) {
  const c10::OperatorName& name = op.operator_name();
  return name.overload_name.empty() ? name.name : name.name + "." + name.overload_name;
}

}  // namespace fake_device
