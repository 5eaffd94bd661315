#include "nn/meta.hpp"

#include <ATen/ATen.h>
#include <ATen/ExpandUtils.h>
#include <ATen/autocast_mode.h>
#include <c10/core/Allocator.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/library.h>

#include <algorithm>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>

namespace dkdm::nn {
namespace {

using at::Tensor;
using Optional = std::optional<Tensor>;

// Shapes of results that LibTorch has for this device in Python alone. Memory formats are those of
// the CPU's kernels: a later contiguous() copies where theirs would.
Tensor convolution(const Tensor& input, const Tensor& weight, const Optional&,
                   at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation,
                   bool transposed, at::IntArrayRef output_padding, std::int64_t groups) {
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
    TORCH_CHECK(shape.back() > 0, "a convolution of kernel ", weight.sizes().slice(2), " is given ",
                input.sizes());
  }
  const bool last = input.suggest_memory_format() == at::MemoryFormat::ChannelsLast ||
                    weight.suggest_memory_format() == at::MemoryFormat::ChannelsLast;
  return at::empty(shape, input.options().memory_format(last && input.dim() == 4
                                                            ? at::MemoryFormat::ChannelsLast
                                                            : at::MemoryFormat::Contiguous));
}

Tensor& where_self_out(const Tensor& condition, const Tensor& one, const Tensor& other,
                       Tensor& out) {
  out.resize_(at::infer_size(at::infer_size(condition.sizes(), one.sizes()), other.sizes()));
  return out;
}

std::tuple<Tensor, Tensor, Tensor> batch_norm(const Tensor& input, const Optional&, const Optional&,
                                              const Optional&, const Optional&, bool, double,
                                              double) {
  const auto of_channels = at::empty({input.size(1)}, input.options());
  return {at::empty_like(input), of_channels, of_channels};
}

std::tuple<Tensor, Tensor, Tensor> layer_norm(const Tensor& input, at::IntArrayRef normalized,
                                              const Optional& weight, const Optional&, double) {
  const auto kept = input.sizes().slice(0, input.sizes().size() - normalized.size());
  TORCH_CHECK(input.sizes().slice(kept.size()) == normalized, "a normalisation over ", normalized,
              " is given ", input.sizes());
  std::vector<std::int64_t> shape(kept.begin(), kept.end());
  shape.resize(input.sizes().size(), 1);
  const bool mixed = weight && weight->defined() && weight->scalar_type() != input.scalar_type();
  const auto options = input.options().dtype(mixed ? at::kFloat : input.scalar_type());
  return {at::empty(input.sizes(), input.options()), at::empty(shape, options),
          at::empty(shape, options)};
}

// q [N,H,L,E], k [N,H,S,E], v [N,H,S,E] -> [N,H,L,E] that lies as [N,L,H,E], and a sum for each
// row: no [L,S], as on the CPU and on CUDA. LibTorch's own way on this device has one.
std::tuple<Tensor, Tensor> flash_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                           double, bool, const Optional&, std::optional<double>) {
  TORCH_CHECK(q.dim() == 4 && k.dim() == 4 && k.sizes() == v.sizes() && q.size(0) == k.size(0) &&
                  q.size(1) == k.size(1) && q.size(3) == k.size(3),
              "attention is given ", q.sizes(), ", ", k.sizes(), " and ", v.sizes());
  return {at::empty({q.size(0), q.size(2), q.size(1), q.size(3)}, q.options()).transpose(1, 2),
          at::empty({q.size(0), q.size(1), q.size(2)}, q.options().dtype(at::kFloat))};
}

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const Optional& mask,
                 double dropout, bool causal, std::optional<double> scale, bool grouped) {
  if (q.dim() == 4 && k.sizes() == v.sizes() && !grouped && dropout == 0)
    return std::get<0>(
        at::_scaled_dot_product_flash_attention_for_cpu(q, k, v, dropout, causal, mask, scale));
  return std::get<0>(
      at::_scaled_dot_product_attention_math(q, k, v, mask, dropout, causal, {}, scale, grouped));
}

// Turned on by a thread that counts in fewer bits, so that every operator goes through
// `cast_products` first. Another mode of the dispatcher than nn/memory.cpp's, used by nothing else.
constexpr auto kMode = c10::DispatchKey::TESTING_ONLY_GenericWrapper;

// Weights that were cast in one forward: once each, as autocast's cache.
thread_local std::unordered_map<c10::TensorImpl*, Tensor>* weights_cast = nullptr;

// What autocast gives factors of fewer bits on the CPU (ATen/autocast_mode.h).
bool is_product(const std::string& name) {
  static const std::set<std::string> kNames{"aten::addbmm",
                                            "aten::addmm",
                                            "aten::baddbmm",
                                            "aten::bmm",
                                            "aten::conv1d",
                                            "aten::conv2d",
                                            "aten::conv3d",
                                            "aten::conv_transpose1d",
                                            "aten::conv_transpose2d",
                                            "aten::conv_transpose3d",
                                            "aten::linear",
                                            "aten::matmul",
                                            "aten::mm",
                                            "aten::scaled_dot_product_attention"};
  return kNames.contains(name);
}

Tensor cast(const Tensor& tensor, at::ScalarType type) {
  if (!tensor.defined() || !tensor.is_meta() || tensor.scalar_type() != at::kFloat) return tensor;
  if (!weights_cast || !tensor.requires_grad() || !tensor.is_leaf() || tensor.is_view())
    return tensor.to(type);
  Tensor& kept = (*weights_cast)[tensor.unsafeGetTensorImpl()];
  if (!kept.defined()) kept = tensor.to(type);
  return kept;
}

void cast_products(const c10::OperatorHandle& op, c10::DispatchKeySet keys,
                   torch::jit::Stack* stack) {
  if (at::autocast::is_autocast_enabled(at::kCPU) && is_product(op.schema().name())) {
    const auto type = at::autocast::get_autocast_dtype(at::kCPU);
    const auto arguments = static_cast<std::ptrdiff_t>(op.schema().arguments().size());
    for (auto argument = stack->end() - arguments; argument != stack->end(); ++argument)
      if (argument->isTensor()) *argument = cast(argument->toTensor(), type);
  }
  op.redispatchBoxed(keys & c10::DispatchKeySet(c10::DispatchKeySet::FULL_AFTER, kMode), stack);
}

class CastsProducts {
 public:
  CastsProducts() : outer_(std::exchange(weights_cast, &cast_)), mode_((registered(), kMode)) {}
  ~CastsProducts() { weights_cast = outer_; }
  CastsProducts(const CastsProducts&) = delete;
  CastsProducts& operator=(const CastsProducts&) = delete;

 private:
  static void registered() {
    static const torch::Library library = [] {
      torch::Library made(torch::Library::IMPL, "_", kMode, __FILE__, __LINE__);
      made.fallback(torch::CppFunction::makeFromBoxedFunction<&cast_products>());
      return made;
    }();
  }

  std::unordered_map<c10::TensorImpl*, Tensor> cast_;
  std::unordered_map<c10::TensorImpl*, Tensor>* outer_;
  c10::impl::IncludeDispatchKeyGuard mode_;
};

thread_local Allocated* counting = nullptr;

// Gives no memory and counts it. In place of LibTorch's, which gives none either, from the first
// use on: a tensor may outlive any scope.
class MetaAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    if (!counting || bytes == 0) return {nullptr, c10::Device(c10::kMeta)};
    counting->alive += static_cast<double>(bytes);
    counting->most = std::max(counting->most, counting->alive);
    return {nullptr, new Block{counting, bytes}, &release, c10::Device(c10::kMeta)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void*, const void*, std::size_t) const override {}

 private:
  struct Block {
    const Allocated* of;
    std::size_t bytes;
  };
  static void release(void* context) {
    const std::unique_ptr<Block> block(static_cast<Block*>(context));
    if (counting == block->of) counting->alive -= static_cast<double>(block->bytes);
  }
};

Tensor without_memory(const Tensor& tensor) {
  const c10::InferenceMode off(false);
  const at::NoGradGuard no_grad;
  return at::empty_strided(tensor.sizes(), tensor.strides(),
                           tensor.options().device(at::kMeta).requires_grad(false));
}

void become(const Tensor& tensor, const Tensor& from) {
  tensor.unsafeGetTensorImpl()->shallow_copy_from(from.getIntrusivePtr());
}

}  // namespace

void teach_meta_device() {
  [[maybe_unused]] static const std::vector<torch::Library> libraries = [] {
    std::vector<torch::Library> made;
    auto& meta =
        made.emplace_back(torch::Library::IMPL, "aten", c10::DispatchKey::Meta, __FILE__, __LINE__);
    meta.impl("convolution_overrideable", &convolution);
    meta.impl("native_batch_norm", &batch_norm);
    meta.impl("native_layer_norm", &layer_norm);
    meta.impl("where.self_out", &where_self_out);
    meta.impl("_scaled_dot_product_flash_attention_for_cpu", &flash_attention);
    meta.impl("scaled_dot_product_attention", &attention);
    made.emplace_back(torch::Library::IMPL, "aten", c10::DispatchKey::AutogradMeta, __FILE__,
                      __LINE__)
        .impl("scaled_dot_product_attention", &attention);
    return made;
  }();
}

OnMeta::OnMeta(const torch::nn::Module& network) {
  teach_meta_device();
  tensors_ = network.parameters();
  for (const Tensor& buffer : network.buffers()) tensors_.push_back(buffer);
  for (const Tensor& tensor : tensors_) {
    before_.push_back(tensor.detach());
    become(tensor, without_memory(tensor));
  }
}

void to_meta(const torch::nn::Module& network) {
  teach_meta_device();
  for (const Tensor& parameter : network.parameters()) become(parameter, without_memory(parameter));
  for (const Tensor& buffer : network.buffers()) become(buffer, without_memory(buffer));
}

OnMeta::~OnMeta() {
  for (std::size_t i = 0; i < tensors_.size(); ++i) become(tensors_[i], before_[i]);
}

Allocated counted_on_meta(const std::function<void()>& work) {
  teach_meta_device();
  [[maybe_unused]] static const MetaAllocator* const allocator = [] {
    auto* made = new MetaAllocator;  // never freed: a storage may remember it
    c10::SetAllocator(c10::kMeta, made);
    return made;
  }();
  struct Counted {
    explicit Counted(Allocated* now) : outer(std::exchange(counting, now)) {}
    ~Counted() { counting = outer; }
    Allocated* outer;
  };
  Allocated allocated;
  const Counted scope(&allocated);
  const CastsProducts in_fewer_bits;
  work();
  return allocated;
}

}  // namespace dkdm::nn
