// Topology: Szegedy et al. 2016, figures 5 to 7, with the pools of the TensorFlow graph. Layers and
// their names: inception_layout.cpp.
#include "metrics/inception.hpp"

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <c10/util/StringUtil.h>

#include <algorithm>
#include <array>
#include <stdexcept>
#include <vector>

#include "metrics/inception_layout.hpp"

namespace dkdm::metrics {
namespace {

constexpr double kNormEpsilon = 1e-3;
// Images at once: maps of more outgrow the caches. Each thread needs a few to have work.
constexpr std::int64_t kBatch = 8, kBatchPerThread = 4;
constexpr auto kChannelsLast = at::MemoryFormat::ChannelsLast;

// Takes tensors by name, checked; what is left at the end was not expected.
class Weights {
 public:
  explicit Weights(const StateDict& state) : left_(state) {}

  // f64, contiguous.
  at::Tensor take(const std::string& name, at::IntArrayRef sizes) {
    const auto found = left_.find(name);
    if (found == left_.end()) throw std::invalid_argument("tensor '" + name + "' is missing");
    const at::Tensor tensor = found->second;
    left_.erase(found);
    if (tensor.sizes() != sizes)
      throw std::invalid_argument(
          c10::str("tensor '", name, "' is ", tensor.sizes(), ", expected ", sizes));
    const at::Tensor values = tensor.detach().to(at::kCPU, at::kDouble).contiguous();
    if (!values.isfinite().all().item<bool>())
      throw std::invalid_argument("tensor '" + name + "' holds values that are not finite");
    return values;
  }

  void check_all_taken() const {
    for (const auto& [name, tensor] : left_)
      if (!name.ends_with(".bn.num_batches_tracked"))
        throw std::invalid_argument("tensor '" + name + "' is unexpected");
  }

 private:
  StateDict left_;
};

// oneDNN's convolution with ReLU in the same pass, and the order it wants the weights in. LibTorch
// registers them for its compiler, and declares no C++ function.
class OneDnn {
 public:
  static const OneDnn* find() {
    static const std::optional<OneDnn> found = make();
    return found ? &*found : nullptr;
  }

  at::Tensor reordered(const at::Tensor& weight, at::IntArrayRef padding, at::IntArrayRef stride,
                       at::IntArrayRef input) const {
    return reorder_.call(weight, padding, stride, kDilation, kGroups, input);
  }
  at::Tensor convolved(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                       at::IntArrayRef padding, at::IntArrayRef stride, bool relu) const {
    return convolve_.call(x, weight, bias, padding, stride, kDilation, kGroups,
                          relu ? "relu" : "none", c10::List<std::optional<at::Scalar>>(), "");
  }

 private:
  using Ints = at::IntArrayRef;
  using Reorder = at::Tensor(const at::Tensor&, Ints, Ints, Ints, std::int64_t,
                             at::OptionalIntArrayRef);
  using Convolve = at::Tensor(const at::Tensor&, const at::Tensor&,
                              const std::optional<at::Tensor>&, Ints, Ints, Ints, std::int64_t,
                              c10::string_view, c10::List<std::optional<at::Scalar>>,
                              std::optional<c10::string_view>);
  static constexpr std::array<std::int64_t, 2> kDilation{1, 1};
  static constexpr std::int64_t kGroups = 1;

  OneDnn(c10::TypedOperatorHandle<Reorder> reorder, c10::TypedOperatorHandle<Convolve> convolve)
      : reorder_(reorder), convolve_(convolve) {}

  static std::optional<OneDnn> make() {
    auto& dispatcher = c10::Dispatcher::singleton();
    const auto reorder = dispatcher.findSchema({"mkldnn::_reorder_convolution_weight", ""});
    const auto convolve = dispatcher.findSchema({"mkldnn::_convolution_pointwise", ""});
    if (!at::globalContext().hasMKLDNN() || !reorder || !convolve) return std::nullopt;
    return OneDnn(reorder->typed<Reorder>(), convolve->typed<Convolve>());
  }

  c10::TypedOperatorHandle<Reorder> reorder_;
  c10::TypedOperatorHandle<Convolve> convolve_;
};

// Convolution, batch norm, ReLU.
class Convolution {
 public:
  // `batch`: images that it will mostly see at once.
  Convolution(const InceptionLayer& layer, Weights& weights, std::int64_t batch, at::Device device)
      : one_dnn_(device.is_cpu() ? OneDnn::find() : nullptr), stride_{layer.stride, layer.stride},
        padding_{layer.pad_h, layer.pad_w} {
    const auto kernel = weights.take(layer.name + ".conv.weight",
                                     {layer.out, layer.in, layer.kernel_h, layer.kernel_w});
    const auto norm = [&](const char* part) {
      return weights.take(layer.name + ".bn." + part, {layer.out});
    };
    const auto variance = norm("running_var");
    if (variance.lt(0).any().item<bool>())
      throw std::invalid_argument("tensor '" + layer.name + ".bn.running_var' is negative");
    const auto scale = norm("weight") / (variance + kNormEpsilon).sqrt();
    bias_ = (norm("bias") - norm("running_mean") * scale).to(at::kFloat);
    weight_ = (kernel * scale.view({-1, 1, 1, 1})).to(at::kFloat).contiguous(kChannelsLast);
    if (one_dnn_) {
      weight_ = one_dnn_->reordered(weight_, padding_, stride_,
                                    {batch, layer.in, layer.side, layer.side});
    } else {
      weight_ = weight_.to(device);
      bias_ = bias_.to(device);
    }
  }

  at::Tensor operator()(const at::Tensor& x, bool relu = true) const {
    if (one_dnn_) return one_dnn_->convolved(x, weight_, bias_, padding_, stride_, relu);
    // What conv2d calls, but for the last argument: cuDNN takes TF32 by a setting of the process,
    // which NoTF32Guard does not see.
    const auto& context = at::globalContext();
    const auto y = at::_convolution(
        x, weight_, bias_, stride_, padding_, /*dilation=*/{1, 1},
        /*transposed=*/false, /*output_padding=*/{0, 0}, /*groups=*/1, context.benchmarkCuDNN(),
        context.deterministicCuDNN() || context.deterministicAlgorithms(),
        context.userEnabledCuDNN(), /*allow_tf32=*/false);
    return relu ? y.relu_() : y;
  }

 private:
  const OneDnn* one_dnn_;  // null where it is not used
  at::Tensor weight_, bias_;
  std::vector<std::int64_t> stride_, padding_;
};

at::Tensor reducing_max_pool(const at::Tensor& x) { return at::max_pool2d(x, {3, 3}, {2, 2}); }

at::Tensor concatenated(std::initializer_list<at::Tensor> branches) { return at::cat(branches, 1); }

}  // namespace

struct Inception::Network {
  std::int64_t batch = std::max(kBatch, kBatchPerThread* at::get_num_threads());
  std::map<std::string, Convolution> layers;
  at::Tensor classes;  // [2048,1008]

  Network(const StateDict& state, at::Device device) {
    Weights weights(state);
    for (const auto& layer : inception_layers())
      layers.emplace(layer.name, Convolution(layer, weights, batch, device));
    classes =
        weights.take("fc.weight", {kClasses, kPooled}).to(at::kFloat).t().contiguous().to(device);
    weights.take("fc.bias", {kClasses});
    weights.check_all_taken();
  }

  at::Tensor run(const std::string& name, const at::Tensor& x) const { return layers.at(name)(x); }

  // 3 x 3 average without the padding, then a 1 x 1 convolution. Both are linear and the average
  // keeps a constant, so the convolution comes first: fewer channels to average.
  at::Tensor averaged(const std::string& name, const at::Tensor& x) const {
    return at::avg_pool2d(layers.at(name)(x, /*relu=*/false), {3, 3}, {1, 1}, {1, 1},
                          /*ceil_mode=*/false, /*count_include_pad=*/false)
        .relu_();
  }

  at::Tensor stem(at::Tensor x) const {
    for (const char* name : {"Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3"}) x = run(name, x);
    x = reducing_max_pool(x);
    for (const char* name : {"Conv2d_3b_1x1", "Conv2d_4a_3x3"}) x = run(name, x);
    return reducing_max_pool(x);
  }

  // Layers PREFIX1, PREFIX2, … one after another.
  at::Tensor chain(const std::string& prefix, int count, at::Tensor x) const {
    for (int i = 1; i <= count; ++i) x = run(prefix + std::to_string(i), x);
    return x;
  }

  at::Tensor mixed_5(const std::string& block, const at::Tensor& x) const {
    return concatenated({run(block + ".branch1x1", x), chain(block + ".branch5x5_", 2, x),
                         chain(block + ".branch3x3dbl_", 3, x),
                         averaged(block + ".branch_pool", x)});
  }

  at::Tensor mixed_6a(const at::Tensor& x) const {
    return concatenated({run("Mixed_6a.branch3x3", x), chain("Mixed_6a.branch3x3dbl_", 3, x),
                         reducing_max_pool(x)});
  }

  at::Tensor mixed_6(const std::string& block, const at::Tensor& x) const {
    return concatenated({run(block + ".branch1x1", x), chain(block + ".branch7x7_", 3, x),
                         chain(block + ".branch7x7dbl_", 5, x),
                         averaged(block + ".branch_pool", x)});
  }

  at::Tensor mixed_7a(const at::Tensor& x) const {
    return concatenated({chain("Mixed_7a.branch3x3_", 2, x), chain("Mixed_7a.branch7x7x3_", 4, x),
                         reducing_max_pool(x)});
  }

  at::Tensor mixed_7(const std::string& block, const at::Tensor& x, const at::Tensor& pool) const {
    const auto narrow = run(block + ".branch3x3_1", x);
    const auto wide = chain(block + ".branch3x3dbl_", 2, x);
    return concatenated({run(block + ".branch1x1", x), run(block + ".branch3x3_2a", narrow),
                         run(block + ".branch3x3_2b", narrow),
                         run(block + ".branch3x3dbl_3a", wide),
                         run(block + ".branch3x3dbl_3b", wide), pool});
  }

  InceptionFeatures features(const at::Tensor& images) const {
    auto x = stem(images);
    for (const char* block : {"Mixed_5b", "Mixed_5c", "Mixed_5d"}) x = mixed_5(block, x);
    x = mixed_6a(x);
    for (const char* block : {"Mixed_6b", "Mixed_6c", "Mixed_6d"}) x = mixed_6(block, x);
    // The concatenation begins with Mixed_6d.branch1x1.
    const auto spatial = x.narrow(1, 0, kSpatialChannels).permute({0, 2, 3, 1}).flatten(1);
    x = mixed_7a(mixed_6("Mixed_6e", x));
    x = mixed_7("Mixed_7b", x, averaged("Mixed_7b.branch_pool", x));
    x = mixed_7("Mixed_7c", x,
                run("Mixed_7c.branch_pool", at::max_pool2d(x, {3, 3}, {1, 1}, {1, 1})));
    const auto pooled = x.mean({2, 3});
    return {pooled, spatial, pooled.mm(classes)};
  }
};

Inception::Inception(const StateDict& state_dict, at::Device device) {
  const at::NoGradGuard no_grad;
  network_ = std::make_unique<const Network>(state_dict, device);
}

Inception::~Inception() = default;
Inception::Inception(Inception&&) noexcept = default;
Inception& Inception::operator=(Inception&&) noexcept = default;

InceptionFeatures Inception::operator()(const at::Tensor& images) const {
  if (images.dim() != 4 || images.size(1) != 3 || images.size(2) != kImageSize ||
      images.size(3) != kImageSize || images.scalar_type() != at::kFloat)
    throw std::invalid_argument(c10::str("images are ", images.scalar_type(), " ", images.sizes(),
                                         ", expected Float [n,3,299,299]"));
  if (const auto device = network_->classes.device(); images.device() != device)
    throw std::invalid_argument(
        c10::str("images are on ", images.device(), ", the network is on ", device));
  const at::NoGradGuard no_grad;
  const at::NoTF32Guard ieee;
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  if (!images.is_cpu()) return network_->features(images.contiguous(kChannelsLast));
  const auto batch = network_->batch, count = images.size(0);
  InceptionFeatures all{at::empty({count, kPooled}), at::empty({count, kSpatial}),
                        at::empty({count, kClasses})};
  for (std::int64_t first = 0; first < count; first += batch) {
    const auto size = std::min(batch, count - first);
    const auto some = network_->features(images.narrow(0, first, size).contiguous(kChannelsLast));
    all.pooled.narrow(0, first, size).copy_(some.pooled);
    all.spatial.narrow(0, first, size).copy_(some.spatial);
    all.logits.narrow(0, first, size).copy_(some.logits);
  }
  return all;
}

}  // namespace dkdm::metrics
