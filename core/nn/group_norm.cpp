// dkdm::group_norm in LibTorch's dispatcher: its operators, what they do on any device, the
// gradient, and what a meta tensor needs. The kernel of the CPU is in group_norm_cpu.cpp.
#include "nn/group_norm.hpp"

#include <ATen/OpMathType.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <string>
#include <utility>
#include <vector>

#include "dkdm/nn.hpp"

namespace dkdm::nn {
namespace group_normalisation {

void check(const Tensor& x, std::int64_t groups, const Optional& weight, const Optional& bias) {
  if (x.dim() < 2 || !x.is_floating_point()) {
    throw ConfigError("group normalisation of " + std::string(x.dtype().name()) + " " +
                      c10::str(x.sizes()) + ": expected floats [N,C,…]");
  }
  if (groups < 1 || x.size(1) % groups != 0) {
    throw ConfigError("group normalisation: " + std::to_string(x.size(1)) +
                      " channels, expected a multiple of the " + std::to_string(groups) +
                      " groups");
  }
  for (const auto& [name, tensor] : {std::pair{"weight", &weight}, std::pair{"bias", &bias}}) {
    if (!tensor->has_value() || !(*tensor)->defined()) continue;
    if ((*tensor)->sizes() == at::IntArrayRef({x.size(1)})) continue;
    throw ConfigError("group normalisation: " + std::string(name) + " is " +
                      c10::str((*tensor)->sizes()) + ", expected [" + std::to_string(x.size(1)) +
                      "]");
  }
}

namespace {

// [C] as [1,C,1,…] in `type`.
Tensor along_channels(const Tensor& values, const Tensor& x, at::ScalarType type) {
  std::vector<std::int64_t> shape(static_cast<std::size_t>(x.dim()), 1);
  shape[1] = x.size(1);
  return values.to(type).view(shape);
}

}  // namespace

Normalised composite(const Tensor& x, std::int64_t groups, const Optional& weight,
                     const Optional& bias, double eps) {
  check(x, groups, weight, bias);
  const at::ScalarType type = at::toOpMathType(x.scalar_type());
  if (x.numel() == 0) {
    const Tensor none = at::zeros({x.size(0), groups}, x.options().dtype(type));
    return {at::empty_like(x), none, none, none};
  }
  const Tensor rows = x.to(type).reshape({x.size(0), groups, -1});
  const Tensor mean = rows.mean(2, /*keepdim=*/true);
  // The mean is rounded; what the rounding left out is the mean of the differences.
  const Tensor near = rows - mean;
  const Tensor rest = near.mean(2, /*keepdim=*/true);
  const Tensor centred = near - rest;
  const Tensor r = (centred.square().mean(2, /*keepdim=*/true) + eps).rsqrt();
  Tensor y = (centred * r).view(x.sizes());
  if (given(weight)) y = y * along_channels(*weight, x, type);
  if (given(bias)) y = y + along_channels(*bias, x, type);
  return {y.to(x.scalar_type()).contiguous(x.suggest_memory_format()), mean.flatten(1),
          rest.flatten(1), r.flatten(1)};
}

Gradients composite_backward(const Tensor& dy, const Tensor& x, const Tensor& mean,
                             const Tensor& rest, const Tensor& r, const Optional& weight,
                             std::int64_t groups, std::array<bool, 3> wanted) {
  const at::ScalarType type = mean.scalar_type();
  const std::int64_t n = x.size(0), c = x.size(1);
  if (x.numel() == 0) {
    const auto zeros = [&](bool want) { return want ? at::zeros({c}, x.options()) : Tensor(); };
    return {wanted[0] ? at::empty_like(x) : Tensor(), zeros(wanted[1]), zeros(wanted[2])};
  }
  const auto by_group = [&](const Tensor& moment) { return moment.view({n, groups, 1}); };
  const Tensor centred = (x.to(type).reshape({n, groups, -1}) - by_group(mean)) - by_group(rest);
  const Tensor slope = dy.to(type).reshape({n, c, -1});
  Tensor dx, dweight, dbias;
  if (wanted[0]) {
    Tensor weighted = slope;
    if (given(weight)) weighted = slope * weight->to(type).view({1, c, 1});
    weighted = weighted.reshape({n, groups, -1});
    const Tensor of_product = (weighted * centred).mean(2, /*keepdim=*/true);
    const Tensor of_sum = weighted.mean(2, /*keepdim=*/true);
    const Tensor scale = by_group(r);
    dx = (scale * (weighted - of_sum - centred * scale.square() * of_product))
             .view(x.sizes())
             .to(x.scalar_type())
             .contiguous(x.suggest_memory_format());
  }
  if (wanted[1]) {
    dweight = (slope * (centred * by_group(r)).view({n, c, -1})).sum({0, 2});
    if (given(weight)) dweight = dweight.to(weight->scalar_type());
  }
  if (wanted[2])
    dbias = slope.sum({0, 2}).to(given(weight) ? weight->scalar_type() : x.scalar_type());
  return {dx, dweight, dbias};
}

namespace {

// Sizes, types and memory formats alone.
Normalised meta(const Tensor& x, std::int64_t groups, const Optional& weight, const Optional& bias,
                double) {
  check(x, groups, weight, bias);
  const auto moment = [&] {
    return at::empty({x.size(0), groups}, x.options().dtype(at::toOpMathType(x.scalar_type())));
  };
  return {at::empty(x.sizes(), x.options().memory_format(x.suggest_memory_format())), moment(),
          moment(), moment()};
}

template <class Signature>
c10::TypedOperatorHandle<Signature> found(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

Normalised with_moments(const Tensor& x, std::int64_t groups, const Optional& weight,
                        const Optional& bias, double eps) {
  static const auto op =
      found<Normalised(const Tensor&, std::int64_t, const Optional&, const Optional&, double)>(
          "dkdm::group_norm_with_moments");
  return op.call(x, groups, weight, bias, eps);
}

Gradients backward(const Tensor& dy, const Tensor& x, const Tensor& mean, const Tensor& rest,
                   const Tensor& r, const Optional& weight, std::int64_t groups,
                   std::array<bool, 3> wanted) {
  static const auto op =
      found<Gradients(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                      const Optional&, std::int64_t, std::array<bool, 3>)>(
          "dkdm::group_norm_backward");
  return op.call(dy, x, mean, rest, r, weight, groups, wanted);
}

Tensor without_gradient(const Tensor& x, std::int64_t groups, const Optional& weight,
                        const Optional& bias, double eps) {
  return std::get<0>(with_moments(x, groups, weight, bias, eps));
}

class Differentiable : public torch::autograd::Function<Differentiable> {
 public:
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& x,
                        std::int64_t groups, const Optional& weight, const Optional& bias,
                        double eps) {
    const at::AutoDispatchBelowAutograd below;
    const auto [y, mean, rest, r] = with_moments(x, groups, weight, bias, eps);
    const auto saved = [](const Optional& tensor) { return given(tensor) ? *tensor : Tensor(); };
    context->save_for_backward({x, mean, rest, r, saved(weight), saved(bias)});
    context->saved_data["groups"] = groups;
    context->saved_data["eps"] = eps;
    return y;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& slopes) {
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[4], &bias = saved[5];
    const std::int64_t groups = context->saved_data["groups"].toInt();
    if (!slopes[0].defined()) return {Tensor(), Tensor(), Tensor(), Tensor(), Tensor()};
    if (at::GradMode::is_enabled())
      return again(slopes[0], x, groups, weight, bias, context->saved_data["eps"].toDouble());
    const std::array<bool, 3> wanted{context->needs_input_grad(0),
                                     weight.defined() && weight.requires_grad(),
                                     bias.defined() && bias.requires_grad()};
    const auto [dx, dweight, dbias] = group_normalisation::backward(
        slopes[0], x, saved[1], saved[2], saved[3], weight, groups, wanted);
    return {dx, Tensor(), dweight, dbias, Tensor()};
  }

 private:
  // A gradient that is differentiated in turn is that of the composite.
  static torch::autograd::variable_list again(const Tensor& dy, const Tensor& x,
                                              std::int64_t groups, const Tensor& weight,
                                              const Tensor& bias, double eps) {
    const Tensor y = std::get<0>(composite(x, groups, weight, bias, eps));
    torch::autograd::variable_list inputs, gradients(5);
    std::vector<std::size_t> places;
    for (const auto& [place, input] :
         {std::pair{std::size_t{0}, &x}, std::pair{std::size_t{2}, &weight},
          std::pair{std::size_t{3}, &bias}}) {
      if (!input->defined() || !input->requires_grad()) continue;
      inputs.push_back(*input);
      places.push_back(place);
    }
    const auto found = torch::autograd::grad({y}, inputs, {dy}, /*retain_graph=*/true,
                                             /*create_graph=*/true);
    for (std::size_t i = 0; i < places.size(); ++i) gradients[places[i]] = found[i];
    return gradients;
  }
};

Tensor with_gradient(const Tensor& x, std::int64_t groups, const Optional& weight,
                     const Optional& bias, double eps) {
  return Differentiable::apply(x, groups, weight, bias, eps);
}

}  // namespace

TORCH_LIBRARY(dkdm, library) {
  library.def(
      "group_norm(Tensor x, int groups, Tensor? weight, Tensor? bias, float eps) -> Tensor");
  library.def(
      "group_norm_with_moments(Tensor x, int groups, Tensor? weight, Tensor? bias, float eps) -> "
      "(Tensor y, Tensor mean, Tensor rest, Tensor r)");
  library.def(
      "group_norm_backward(Tensor dy, Tensor x, Tensor mean, Tensor rest, Tensor r, Tensor? weight, "
      "int groups, bool[3] wanted) -> (Tensor dx, Tensor dweight, Tensor dbias)");
}

TORCH_LIBRARY_IMPL(dkdm, CompositeExplicitAutograd, library) {
  library.impl("group_norm", without_gradient);
  library.impl("group_norm_with_moments", composite);
  library.impl("group_norm_backward", composite_backward);
}

TORCH_LIBRARY_IMPL(dkdm, CPU, library) {
  library.impl("group_norm_with_moments", kernel);
  library.impl("group_norm_backward", kernel_backward);
}

TORCH_LIBRARY_IMPL(dkdm, Meta, library) { library.impl("group_norm_with_moments", meta); }

TORCH_LIBRARY_IMPL(dkdm, Autograd, library) { library.impl("group_norm", with_gradient); }

}  // namespace group_normalisation

torch::Tensor group_norm(const torch::Tensor& x, std::int64_t groups, const torch::Tensor& weight,
                         const torch::Tensor& bias, double eps) {
  using group_normalisation::Optional;
  static const auto op =
      group_normalisation::found<at::Tensor(const at::Tensor&, std::int64_t, const Optional&,
                                            const Optional&, double)>("dkdm::group_norm");
  const auto optional = [](const at::Tensor& tensor) {
    return tensor.defined() ? Optional(tensor) : std::nullopt;
  };
  return op.call(x, groups, optional(weight), optional(bias), eps);
}

GroupNorm::GroupNorm(std::int64_t groups, std::int64_t channels, double eps)
    : groups_(groups), eps_(eps) {
  if (groups < 1 || channels < 1 || channels % groups != 0) {
    throw ConfigError("group normalisation: " + std::to_string(channels) +
                      " channels, expected a multiple of the " + std::to_string(groups) +
                      " groups");
  }
  weight = register_parameter("weight", at::ones({channels}));
  bias = register_parameter("bias", at::zeros({channels}));
}

torch::Tensor GroupNorm::forward(const torch::Tensor& x) {
  return group_norm(x, groups_, weight, bias, eps_);
}

}  // namespace dkdm::nn
