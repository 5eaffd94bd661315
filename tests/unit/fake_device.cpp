// The fake accelerator: it gives the CPU's bits, and finds each kind of mistake of code that means
// to run on a device.
#include "fake_device/fake_device.hpp"

#include <ATen/ATen.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <functional>

#include "dkdm/nn.hpp"
#include "fake_device/compare.hpp"

using namespace dkdm;
using namespace fake_device;
using Catch::Matchers::Contains;

namespace {

constexpr auto kLast = at::MemoryFormat::ChannelsLast;

struct Case {
  std::string name;
  Tensors inputs;
  Function function;
};

std::vector<Case> layers() {
  const auto conv = [](std::int64_t stride, std::int64_t groups) -> Function {
    return [=](const Tensors& a) -> Tensors {
      return {at::conv2d(a[0], a[1], a[2], stride, 1, 1, groups)};
    };
  };
  const Tensor weight = filled(1, {12, 8, 3, 3}), bias = filled(2, {12});
  const Tensor rows = filled(3, {3, 5, 24});
  const Tensor index = at::tensor({2, 0, 2}, at::kLong);
  return {
      {"conv2d", {image(0).contiguous(), weight, bias}, conv(1, 1)},
      {"conv2d, channels-last", {image(0), weight.contiguous(kLast), bias}, conv(1, 1)},
      {"conv2d, stride 2", {image(0), weight.contiguous(kLast), bias}, conv(2, 1)},
      {"conv2d, groups", {image(0), filled(1, {12, 2, 3, 3}), bias}, conv(1, 4)},
      {"conv2d without a bias",
       {image(0), weight},
       [](const Tensors& a) -> Tensors { return {at::conv2d(a[0], a[1])}; }},
      {"dkdm::group_norm",
       {image(0), filled(4, {8}), filled(5, {8})},
       [](const Tensors& a) -> Tensors { return {nn::group_norm(a[0], 4, a[1], a[2])}; }},
      {"dkdm::group_norm, channels-first",
       {image(0).contiguous(), filled(4, {8}), filled(5, {8})},
       [](const Tensors& a) -> Tensors { return {nn::group_norm(a[0], 4, a[1], a[2])}; }},
      {"group_norm",
       {image(0), filled(4, {8}), filled(5, {8})},
       [](const Tensors& a) -> Tensors { return {at::group_norm(a[0], 4, a[1], a[2])}; }},
      {"layer_norm",
       {rows, filled(4, {24}), filled(5, {24})},
       [](const Tensors& a) -> Tensors { return {at::layer_norm(a[0], {24}, a[1], a[2])}; }},
      {"activations",
       {image(0)},
       [](const Tensors& a) -> Tensors {
         return {at::silu(a[0]),     at::relu(a[0]),       at::gelu(a[0], "tanh"),
                 at::gelu(a[0]),     at::sigmoid(a[0]),    at::tanh(a[0]),
                 at::softplus(a[0]), at::leaky_relu(a[0]), at::exp(a[0])};
       }},
      {"linear of rows and of tokens",
       {rows, filled(6, {7, 24}), filled(7, {7})},
       [](const Tensors& a) -> Tensors {
         return {at::linear(a[0], a[1], a[2]), at::linear(a[0].flatten(0, 1), a[1], a[2]),
                 at::linear(a[0], a[1])};
       }},
      {"matmul",
       {rows, filled(6, {3, 24, 5}), filled(7, {24, 4})},
       [](const Tensors& a) -> Tensors {
         return {at::matmul(a[0], a[1]), at::matmul(a[0], a[2]), at::bmm(a[1], a[0])};
       }},
      {"softmax",
       {rows},
       [](const Tensors& a) -> Tensors {
         return {at::softmax(a[0], -1), at::log_softmax(a[0], 1)};
       }},
      {"attention",
       {filled(3, {2, 7, 36})},
       [](const Tensors& a) -> Tensors {
         return {nn::self_attention(a[0], 3),
                 nn::self_attention(a[0], 2, nn::QkvOrder::heads_first)};
       }},
      {"resampling",
       {image(0)},
       [](const Tensors& a) -> Tensors {
         return {at::avg_pool2d(a[0], 2),
                 at::adaptive_avg_pool2d(a[0], {1, 1}),
                 at::max_pool2d(a[0], 2),
                 at::upsample_nearest2d(a[0], {12, 12}),
                 at::upsample_bilinear2d(a[0], {9, 9}, false),
                 at::pixel_shuffle(a[0], 2),
                 at::constant_pad_nd(a[0], {1, 2})};
       }},
      {"joining and cutting",
       {image(0), image(1)},
       [](const Tensors& a) -> Tensors {
         const auto parts = a[0].chunk(2, 1);
         return {at::cat({a[0], a[1]}, 1), at::stack({a[0], a[1]}),
                 parts[0] * parts[1],      a[0].permute({0, 2, 3, 1}).reshape({3, -1}),
                 a[0].flip({3}),           a[0].narrow(0, 1, 2).expand({2, 8, 6, 6}).contiguous(),
                 a[0].unbind(1)[3],        at::roll(a[0], 1, 2)};
       }},
      {"rows by index",
       {image(0), image(1), index},
       [](const Tensors& a) -> Tensors {
         return {a[0].index_select(0, a[2]), a[0].index({a[2]}),
                 a[0].clone().index_copy_(0, at::arange(3, a[2].options()), a[1]),
                 a[0].gather(1, a[2].view({3, 1, 1, 1}).expand({3, 2, 6, 6})),
                 a[0].clone().index_put_({a[2]}, a[1], /*accumulate=*/true)};
       }},
      {"arithmetic",
       {image(0), image(1), filled(8, {3, 1, 1, 1})},
       [](const Tensors& a) -> Tensors {
         return {a[0] + a[1] * 2,
                 a[0] * a[2] - 1,
                 at::addcmul(a[0], a[1], a[2]),
                 at::lerp(a[0], a[1], 0.25),
                 a[0] / (a[1].square() + 1),
                 at::where(a[0] > a[1], a[0], a[2]),
                 a[0].clamp(-0.5, 0.5),
                 a[0].clone().mul_(a[2]).add_(a[1], 3),
                 a[0].neg().abs(),
                 at::maximum(a[0], a[1]),
                 a[0].masked_fill(a[1] > 0, 4),
                 a[0].pow(3)};
       }},
      {"reductions",
       {image(0), image(1)},
       [](const Tensors& a) -> Tensors {
         return {a[0].sum(),
                 a[0].mean({2, 3}),
                 a[0].sum(at::IntArrayRef{0, 2}),
                 a[0].amax({1}),
                 a[0].flatten(1).var(1, false),
                 a[0].norm(),
                 at::mse_loss(a[0], a[1]),
                 a[0].flatten().cumsum(0),
                 at::logsumexp(a[0], {1})};
       }},
      {"comparisons and types",
       {image(0), image(1)},
       [](const Tensors& a) -> Tensors {
         return {a[0] == a[1],
                 a[0] > 0,
                 at::isfinite(a[0]),
                 a[0].argmax(1),
                 std::get<1>(a[0].detach().sort(1, false)),
                 a[0].to(at::kDouble),
                 a[0].to(at::kBFloat16),
                 (a[0] * 100).to(at::kLong),
                 (a[0] > 0).all()};
       }},
      {"numbers that are made there",
       {image(0)},
       [](const Tensors& a) -> Tensors {
         const auto here = a[0].options();
         return {at::zeros({2, 3}, here),
                 at::full({2}, 3.5, here),
                 at::arange(2, 9, here),
                 at::linspace(0, 1, 5, here),
                 at::ones_like(a[0].detach()),
                 at::eye(3, here),
                 at::tensor({1.0F, 2.0F}).to(here.device())};
       }},
      {"times of a network",
       {at::tensor({0, 7, 999}, at::kLong)},
       [](const Tensors& a) -> Tensors { return {nn::timestep_embedding(a[0], 10)}; }},
  };
}

// What a child process that runs `work` says before it dies of it.
std::string last_words(const std::function<void()>& work) {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::dup2(ends[1], STDERR_FILENO);
    ::dup2(ends[1], STDOUT_FILENO);
    work();
    ::_exit(0);
  }
  ::close(ends[1]);
  std::string text;
  char buffer[256];
  for (ssize_t n; (n = ::read(ends[0], buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<std::size_t>(n));
  ::close(ends[0]);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status != 0);
  return text;
}

}  // namespace

TEST_CASE("fake device: content, strides and counts of what is moved there and back",
          "[unit][fake_device]") {
  const auto device = fake_device::device();
  CHECK(device.str() == "fake:0");
  for (const Tensor& x : {image(0), image(0).transpose(1, 2), filled(1, {3, 4}).narrow(1, 1, 2),
                          filled(1, {}), at::empty({0, 3}), at::arange(5)}) {
    fake_device::reset_counters();
    const Tensor there = x.to(device);
    CHECK(there.device() == device);
    CHECK(at::equal(there.cpu(), x));
    const auto counters = fake_device::counters();
    CHECK(counters.to_device.calls == 1);
    CHECK(counters.to_device.bytes == static_cast<std::int64_t>(x.nbytes()));
    CHECK(counters.to_device.blocking == 1);
    CHECK(counters.to_host.calls == 1);
    CHECK(counters.to_host.bytes == static_cast<std::int64_t>(x.nbytes()));
    CHECK(counters.synchronisations() == 0);
  }
  CHECK(image(0).to(device).is_contiguous(kLast));

  // Pinned memory, and a way back that does not wait.
  fake_device::reset_counters();
  const Tensor pinned = at::empty({3, 4}, at::TensorOptions().pinned_memory(true));
  CHECK(pinned.is_pinned());
  CHECK_FALSE(at::empty({3, 4}).is_pinned());
  pinned.copy_(filled(1, {3, 4}));
  const Tensor there = pinned.to(device, /*non_blocking=*/true);
  const Tensor back = at::empty({3, 4}, at::TensorOptions().pinned_memory(true));
  back.copy_(there * 2, /*non_blocking=*/true);
  CHECK(at::equal(back, pinned * 2));
  CHECK(fake_device::counters().to_device.blocking == 0);
  CHECK(fake_device::counters().to_host.calls == 1);
  CHECK(fake_device::counters().to_host.blocking == 0);

  Tensor grown = filled(1, {4}).to(device);
  grown.resize_({9});
  CHECK(at::equal(grown.narrow(0, 0, 4).cpu(), filled(1, {4})));
  CHECK(at::equal(at::arange(2, 6, at::TensorOptions().device(device)).cpu(), at::arange(2, 6)));
  CHECK(there.storage().device() == device);
}

TEST_CASE("fake device: every layer gives the CPU's bits, forwards and backwards",
          "[unit][fake_device]") {
  for (const Case& layer : layers()) {
    INFO(layer.name);
    check_equal(computed(layer.function, layer.inputs, fake_device::device()),
                computed(layer.function, layer.inputs, at::kCPU));
  }
}

TEST_CASE("fake device: composites agree with the CPU's kernels", "[unit][fake_device]") {
  const Function normalised = [](const Tensors& a) -> Tensors {
    return {nn::group_norm(a[0], 4, a[1], a[2])};
  };
  const Function attention = [](const Tensors& a) -> Tensors {
    return {nn::self_attention(a[0], 3)};
  };
  const Tensors inputs{image(0), filled(4, {8}), filled(5, {8})}, qkv{filled(3, {2, 7, 36})};
  const fake_device::Composites composites;
  const auto check_close = [](const Function& function, const Tensors& of, double tolerance) {
    const auto there = computed(function, of, fake_device::device());
    const auto here = computed(function, of, at::kCPU);
    REQUIRE(there.size() == here.size());
    for (std::size_t i = 0; i < here.size(); ++i) {
      CHECK(there[i].device() == fake_device::device());
      CHECK(at::allclose(there[i].cpu(), here[i], tolerance, tolerance));
    }
  };
  check_close(attention, qkv, 1e-6);
  check_close(normalised, inputs, 1e-5);  // sums in f32, not in f64
  // In f64 the CPU's normalisation is the composite too.
  Tensors exact;
  for (const Tensor& input : inputs) exact.push_back(input.to(at::kDouble));
  check_equal(computed(normalised, exact, fake_device::device()),
              computed(normalised, exact, at::kCPU));
}

TEST_CASE("fake device: lists of tensors are changed as on the CPU", "[unit][fake_device]") {
  const auto run = [](at::Device device) {
    Tensors a, b, m, v;
    for (std::int64_t i = 0; i < 3; ++i) {
      a.push_back(filled(i, {4, i + 1}).to(device));
      b.push_back(filled(i + 10, {4, i + 1}).to(device));
      m.push_back(at::zeros_like(a.back()));
      v.push_back(at::zeros_like(a.back()));
    }
    Tensors all = at::_foreach_norm(a, 2);
    at::_foreach_mul_(a, all[1].reciprocal());
    at::_foreach_lerp_(a, b, 0.125);
    at::_foreach_add_(a, b, 2);
    const Tensors steps(3, at::full({}, 1, at::TensorOptions().device(device)));
    at::_fused_adamw_(a, b, m, v, {}, steps, 0.01, 0.9, 0.999, 0.1, 1e-8, false, false);
    for (const auto* list : {&a, &b, &m, &v}) all.insert(all.end(), list->begin(), list->end());
    return all;
  };
  check_equal(run(fake_device::device()), run(at::kCPU));
}

TEST_CASE("fake device: tensors of two devices are refused, naming the operator",
          "[unit][fake_device]") {
  const auto device = fake_device::device();
  const Tensor here = filled(1, {3, 3}), there = here.to(device);
  const Tensor rows = at::tensor({1, 0}, at::kLong);
  CHECK_THROWS_WITH(there + here, Contains("aten::add.Tensor") && Contains("cpu, expected fake:0"));
  CHECK_THROWS_WITH(here + there, Contains("aten::add.Tensor"));
  CHECK_THROWS_WITH(at::matmul(there, here), Contains("aten::mm"));
  CHECK_THROWS_WITH(at::cat({there, here}), Contains("aten::cat"));
  CHECK_THROWS_WITH(at::conv2d(image(0).to(device), filled(1, {4, 8, 3, 3})),
                    Contains("aten::convolution"));
  CHECK_THROWS_WITH(there.index_select(0, rows), Contains("aten::index_select"));
  CHECK_THROWS_WITH(there.gather(0, at::zeros({1, 3}, at::kLong)), Contains("aten::gather"));
  CHECK_THROWS_WITH(here.index({rows.to(device)}), Contains("aten::index.Tensor"));
  CHECK_THROWS_WITH(at::where(here > 0, there, there), Contains("aten::where"));
  CHECK_THROWS_WITH(nn::group_norm(there.view({1, 3, 3}), 1, at::ones({3})),
                    Contains("dkdm::group_norm_with_moments"));

  // A number may come from the CPU, not be written there; CUDA's indexing brings indices.
  CHECK(at::equal((there * at::full({}, 2.0)).cpu(), here * 2));
  CHECK_THROWS_WITH(at::full({}, 2.0).add_(there.sum()), Contains("aten::add_.Tensor"));
  fake_device::reset_counters();
  CHECK(at::equal(there.index({rows}).cpu(), here.index({rows})));
  CHECK(fake_device::counters().to_device.calls == 1);

  Tensors parameter{there.clone()}, gradient{there.clone()}, m{at::zeros_like(there)},
      v{at::zeros_like(there)};
  const auto adam = [&](const Tensor& steps) {
    const Tensors counts{steps};
    at::_fused_adamw_(parameter, gradient, m, v, {}, counts, 0.01, 0.9, 0.999, 0, 1e-8, false,
                      false);
  };
  CHECK_THROWS_WITH(adam(at::ones({})),
                    Contains("aten::_fused_adamw_") && Contains("in the list state_steps"));
  CHECK_NOTHROW(adam(at::ones({}).to(device)));
  CHECK_THROWS_WITH(at::_foreach_add_(parameter, Tensors{here}), Contains("aten::add_.Tensor"));
  if (!fake_device::knows_cuda()) return;
  CHECK_THROWS_WITH(there.index_select(0, at::full({}, 1, at::kLong)),
                    Contains("aten::index_select"));  // a check of devices before its kernel
}

TEST_CASE("fake device: planted mistakes are found and named", "[unit][fake_device]") {
  const auto device = fake_device::device();
  const Tensor x = filled(1, {5}).to(device);

  const auto forward = [](const Tensor& input) { return at::relu(input) * at::arange(5); };
  CHECK_THROWS_WITH(forward(x), Contains("aten::mul.Tensor"));

  fake_device::reset_counters();
  double sum = 0;
  for (std::int64_t i = 0; i < 5; ++i) sum += x[i].item<double>();
  CHECK(sum == Approx(x.sum().cpu().item<double>()));
  CHECK(fake_device::counters().waits ==
        std::map<std::string, std::int64_t>{{"aten::_local_scalar_dense", 5}});

  fake_device::reset_counters();
  at::nonzero(x > 0);
  at::masked_select(x, x > 0);
  x.index({x > 0});
  at::equal(x, x);
  at::is_nonzero(x[0]);
  c10::impl::getDeviceGuardImpl(at::kPrivateUse1)->synchronizeDevice(0);
  CHECK(fake_device::counters().waits ==
        std::map<std::string, std::int64_t>{{"aten::nonzero", 1},
                                            {"aten::masked_select", 1},
                                            {"aten::index.Tensor by a mask", 1},
                                            {"aten::equal", 1},
                                            {"aten::_local_scalar_dense", 1},
                                            {"synchronize", 1}});
  CHECK(fake_device::counters().synchronisations() == 6);

  CHECK_THROWS_WITH(at::normal(0, 1, {3}, std::nullopt, at::TensorOptions().device(device)),
                    Contains("stateful generator"));
  CHECK_THROWS_WITH(x.clone().uniform_(), Contains("aten::uniform_"));
  CHECK_THROWS_WITH(at::randperm(4, at::TensorOptions().device(device)), Contains("generator"));

  const std::string words = last_words([&] {
    const Tensor y = at::silu(x);
    const float* values = y.const_data_ptr<float>();
    float total = 0;
    for (std::int64_t i = 0; i < y.numel(); ++i) total += values[i];
    ::_exit(total > 0 ? 1 : 0);
  });
  CHECK_THAT(words, Contains("host code touched device memory, after aten::silu\n"));
}
