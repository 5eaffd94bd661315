#include "model/meta_device.hpp"

#include <ATen/ATen.h>
#include <ATen/ExpandUtils.h>
#include <torch/library.h>
#include <torch/nn/module.h>

#include <optional>
#include <tuple>
#include <vector>

namespace dkdm::model {
namespace {

// Shapes of results that LibTorch has for this device in Python alone.
at::Tensor convolution_on_meta(const at::Tensor& input, const at::Tensor& weight,
                               const std::optional<at::Tensor>&, at::IntArrayRef stride,
                               at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed,
                               at::IntArrayRef output_padding, std::int64_t groups) {
  const auto channels = transposed ? weight.size(0) : weight.size(1) * groups;
  TORCH_CHECK(input.dim() == weight.dim() && input.size(1) == channels, "a convolution of ",
              channels, " channels is given ", input.sizes());
  std::vector<std::int64_t> shape{input.size(0),
                                  transposed ? weight.size(1) * groups : weight.size(0)};
  for (std::size_t i = 0; i + 2 < static_cast<std::size_t>(input.dim()); ++i) {
    const auto side = input.size(static_cast<std::int64_t>(i) + 2);
    const auto reach = dilation[i] * (weight.size(static_cast<std::int64_t>(i) + 2) - 1);
    shape.push_back(transposed
                        ? (side - 1) * stride[i] - 2 * padding[i] + reach + output_padding[i] + 1
                        : (side + 2 * padding[i] - reach - 1) / stride[i] + 1);
  }
  return at::empty(shape, input.options());
}

at::Tensor& where_on_meta(const at::Tensor& condition, const at::Tensor& one,
                          const at::Tensor& other, at::Tensor& out) {
  out.resize_(at::infer_size(at::infer_size(condition.sizes(), one.sizes()), other.sizes()));
  return out;
}

using Optional = std::optional<at::Tensor>;
std::tuple<at::Tensor, at::Tensor, at::Tensor> batch_norm_on_meta(const at::Tensor& input,
                                                                  const Optional&, const Optional&,
                                                                  const Optional&, const Optional&,
                                                                  bool, double, double) {
  const auto of_channels = at::empty({input.size(1)}, input.options());
  return {at::empty_like(input), of_channels, of_channels};
}

void teach_meta_device() {
  [[maybe_unused]] static const torch::Library library = [] {
    torch::Library made(torch::Library::IMPL, "aten", c10::DispatchKey::Meta, __FILE__, __LINE__);
    made.impl("convolution_overrideable", &convolution_on_meta);
    made.impl("native_batch_norm", &batch_norm_on_meta);
    made.impl("where.self_out", &where_on_meta);
    return made;
  }();
}

}  // namespace

void to_meta(torch::nn::Module& network) {
  teach_meta_device();
  const auto without_memory = [](const at::Tensor& tensor) {
    const auto meta =
        at::empty_strided(tensor.sizes(), tensor.strides(), tensor.options().device(at::kMeta));
    tensor.unsafeGetTensorImpl()->shallow_copy_from(meta.getIntrusivePtr());
  };
  for (const auto& parameter : network.parameters()) without_memory(parameter);
  for (const auto& buffer : network.buffers()) without_memory(buffer);
}

}  // namespace dkdm::model
