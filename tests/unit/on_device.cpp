// The suite's own code on a device that is not the CPU: the CPU's bits, nothing from the wrong
// device, and nothing that a device is waited for.
#include <ATen/ATen.h>

#include <algorithm>
#include <catch2/catch.hpp>

#include "config/experiment.hpp"
#include "device/graph.hpp"
#include "dkdm/denoising.hpp"
#include "dkdm/diffusion.hpp"
#include "dkdm/features.hpp"
#include "dkdm/nn.hpp"
#include "dkdm/optimizer.hpp"
#include "dkdm/random.hpp"
#include "dkdm/sampler.hpp"
#include "fake_device/compare.hpp"
#include "fixtures/analytic.hpp"
#include "fixtures/students.hpp"
#include "io/checkpoint/work_file.hpp"
#include "random/portable.hpp"

using namespace dkdm;
using namespace fake_device;
using Catch::Matchers::Contains;

namespace {

constexpr auto kLast = at::MemoryFormat::ChannelsLast;

constexpr SampleShape kImages{3, 16, 16};

std::shared_ptr<Denoiser> student(const std::string& name, at::Device device) {
  const auto all = fixtures::desk_students();
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const auto& each) { return each.first == name; });
  const auto network = fixtures::student(name, found->second, kImages);
  fixtures::fill_parameters(*network);
  fixtures::near_start(*network);
  network->to(device);
  return network;
}

// A training step of a student on `device`: results and all weights after it.
struct Step {
  Tensor prediction, norm, input_gradient;
  std::map<std::string, Tensor> state;
};

Step step(const std::string& name, at::Device device, Counters* counters = nullptr) {
  const auto network = student(name, device);
  network->train();
  const Params settings(config::train_table(),
                        {{"steps", std::int64_t{4}},
                         {"lr", 0.01},
                         {"ema", 0.9},
                         {"weight_decay", 0.1},
                         {"grad_clip", 0.5}},
                        "test");
  train::Optimizer optimizer(*network, settings);
  const Tensor x = filled(7, {4, 3, 16, 16}).contiguous(kLast).to(device).requires_grad_();
  const Tensor t = (at::arange(4) * 150 + 7).to(device);
  reset_counters();
  nn::seed_layers(*network, 5, 0);
  const Tensor y = network->forward(x, t);
  y.square().mean().backward();
  const Tensor norm = optimizer.grad_norm();
  optimizer.step(0, norm);
  if (counters) *counters = fake_device::counters();
  return {y.detach(), norm, x.grad(), optimizer.state()};
}

}  // namespace

TEST_CASE("on a device: networks of the suite train as on the CPU", "[unit][on_device]") {
  for (const auto& [name, given] : fixtures::desk_students()) {
    INFO(name);
    Counters counters;
    step(name, fake_device::device());  // brings the frequencies of the time embedding
    const Step there = step(name, fake_device::device(), &counters);
    const Step here = step(name, at::kCPU);
    check_equal({there.prediction, there.norm, there.input_gradient},
                {here.prediction, here.norm, here.input_gradient});
    REQUIRE(there.state.size() == here.state.size());
    for (const auto& [key, value] : here.state) {
      INFO(key);
      check_equal({there.state.at(key)}, {value});
    }
    CHECK(counters.synchronisations() == 0);
    CHECK(counters.to_host.calls == 0);
    CHECK(counters.to_device.calls == 0);
  }
}

TEST_CASE("on a device: the features that a network offers are asked for where it is",
          "[unit][on_device]") {
  const auto here = example_features(*student("adm-unet", at::kCPU), kImages, {"middle"});
  const auto there =
      example_features(*student("adm-unet", fake_device::device()), kImages, {"middle"});
  check_equal({there.at("middle")}, {here.at("middle")});
}

TEST_CASE("on a device: random numbers are made there, with the CPU's bits", "[unit][on_device]") {
  const auto device = fake_device::device();
  const Tensor index = at::tensor({std::int64_t{4}, std::int64_t{1} << 40, std::int64_t{0}});
  const Tensor there = index.to(device);
  reset_counters();
  const Tensor z = Random(3, Stream::pool_noise).normal(6, there, {3, 5, 7});
  const Tensor empty = Random(3, Stream::pool_noise).normal(6, there.narrow(0, 0, 0), {3, 5, 7});
  CHECK(fake_device::counters().to_device.calls == 0);
  CHECK(empty.sizes() == at::IntArrayRef({0, 3, 5, 7}));
  check_equal({z}, {Random(3, Stream::pool_noise).normal(6, index, {3, 5, 7})});

  const auto drawn = [](at::Device where) {
    nn::Dropout dropout(0.3);
    nn::RandomLayer layer;
    Tensors all;
    for (const Tensor& x : {image(0), filled(1, {4, 9}), filled(1, {2, 3, 5}), filled(1, {6}),
                            filled(1, {2, 1, 3, 3}).contiguous(kLast)}) {
      const Tensor input = x.to(where).requires_grad_();
      reset_counters();
      for (nn::SeededLayer* seeded :
           {static_cast<nn::SeededLayer*>(&dropout), static_cast<nn::SeededLayer*>(&layer)})
        seeded->seed(5, 6, 7, /*first_sample=*/8);
      all.push_back(dropout.forward(input).detach());
      all.push_back(layer.normal(input));
      all.push_back(layer.mask(input, 0.2));
      all.push_back(layer.uniform(input));
      CHECK(fake_device::counters().to_device.calls == 0);
    }
    return all;
  };
  const Tensors here = drawn(at::kCPU);
  check_equal(drawn(device), here);
  // The second, of the layer's first call, whose samples are far beyond what f32 or f64 can count.
  CHECK(at::equal(
      here[1],
      Random(5, Stream::layer).normal(6, (std::int64_t{7 * 2048} << 40) + 8, 3, {8, 6, 6})));
  CHECK_THROWS_WITH(random::dropout_mask(1, Stream::dropout, {}, 0, 0, {2, 3}, 1, device),
                    Contains("0 <= p < 1"));
}

TEST_CASE("on a device: samplers, teacher and losses give the CPU's bits", "[unit][on_device]") {
  const auto device = fake_device::device();
  const auto here = student("adm-unet", at::kCPU), there = student("adm-unet", device);
  const GaussianDiffusion process({"cosine", 20, ""});
  for (const std::string& name : sampler_names()) {
    INFO(name);
    SamplerConfig config;
    config.sampler = name;
    config.eta = 0.5;
    const auto images = [&](Denoiser& network) {
      return sample(network, process, config, kImages, 3, 2, 4);
    };
    const Tensor expected = images(*here);
    images(*there);  // brings the process's tables
    reset_counters();
    check_equal({images(*there)}, {expected});
    const auto counters = fake_device::counters();
    CHECK(counters.to_device.blocking == 0);
    CHECK(counters.to_host.calls == (sampling_steps(process, config) + 15) / 16 + 1);  // and ours
    CHECK(counters.synchronisations() == 0);
  }

  const Tensor x_t = filled(1, {4, 3, 16, 16}).contiguous(kLast);
  const Tensor x0 = filled(2, {4, 3, 16, 16}).clamp(-1, 1), z = filled(3, {4, 3, 16, 16});
  const Tensor output = filled(4, {4, 6, 16, 16}), t = at::tensor({3, 0, 7, 19}, at::kLong);
  const auto learn = [&](Denoiser& network) -> Function {
    return [&](const Tensors& a) -> Tensors {
      const TeacherStep step = teacher_step(network, process, a[0].detach(), a[4], a[2].detach());
      const auto distilled =
          distillation_loss(process, a[3], a[0], a[4], step.p, true, 0.5, step.x_prev);
      const auto hybrid = hybrid_loss(process, a[3], a[1], a[0], a[4], a[2], 1.0, true);
      return {step.x_prev, distilled.loss, distilled.vb, hybrid.loss, hybrid.vb};
    };
  };
  const Tensors inputs{x_t, x0, z, output, t};
  check_equal(computed(learn(*there), inputs, device), computed(learn(*here), inputs, at::kCPU));
  reset_counters();
  computed(learn(*there), inputs, device);
  CHECK(fake_device::counters().synchronisations() == 0);
}

TEST_CASE("on a device: unfinished work of tensors there is saved as on the CPU",
          "[unit][on_device]") {
  const fixtures::ScratchFolder folder;
  const TensorMap here{{"a", image(0)}, {"b", filled(1, {4})}};
  TensorMap there;
  for (const auto& [name, tensor] : here) there[name] = tensor.to(fake_device::device());
  reset_counters();
  io::save_work(folder.path / "there.safetensors", there, {{"step", "3"}});
  CHECK(fake_device::counters().to_host.calls == 2);
  io::save_work(folder.path / "here.safetensors", here, {{"step", "3"}});
  CHECK(io::load_work(folder.path / "there.safetensors").facts ==
        io::load_work(folder.path / "here.safetensors").facts);
}

TEST_CASE("on a device: CUDA has every operator of training and sampling", "[unit][on_device]") {
  if (!knows_cuda()) {
    WARN("this LibTorch came without native_functions.yaml");
    return;
  }
  CHECK(missing_on_cuda({"aten::add.Tensor", "aten::mm", "aten::mkldnn_linear",
                         "aten::_fused_adamw_", "aten::no_such_operator"}) ==
        std::vector<std::string>{"aten::mkldnn_linear", "aten::no_such_operator"});
  const Composites composites;
  for (const auto& [name, given] : fixtures::desk_students()) {
    INFO(name);
    Counters counters;
    step(name, fake_device::device(), &counters);
    CHECK(counters.operators.contains("aten::convolution_backward"));
    CHECK(missing_on_cuda(counters.operators) == std::vector<std::string>{});
  }
  const auto network = student("adm-unet", fake_device::device());
  for (const std::string& name : sampler_names()) {
    INFO(name);
    SamplerConfig config;
    config.sampler = name;
    reset_counters();
    sample(*network, GaussianDiffusion({"cosine", 20, ""}), config, kImages, 3, 0, 2);
    CHECK(missing_on_cuda(counters().operators) == std::vector<std::string>{});
  }
}

TEST_CASE("on a device: recording is had where it can be, and what is missing is said",
          "[unit][on_device]") {
  CHECK(device::Graph::why_not(fake_device::device()).empty());
  CHECK(device::Graph::why_not(at::kCPU) == "cpu records no work");
  // Without CUDA's own libraries the module for it cannot be loaded: the first that is absent is
  // named. Where they all are, it can.
  const auto reason = device::Graph::why_not(at::Device(at::kCUDA, 0));
  INFO(reason);
  CHECK((reason.empty() || reason.find("cannot open shared object file") != std::string::npos));
  CHECK(reason.find("libdkdm_cuda.so") == std::string::npos);  // that one lies where it should

  device::Graph graph(fake_device::device());
  const auto x = at::ones({3}, at::TensorOptions().device(fake_device::device()));
  at::Tensor twice;
  graph.record([&] { twice = x * 2; });
  x.fill_(5);
  CHECK(twice.to(at::kCPU)[0].item<float>() == 2);
  graph.replay();
  CHECK(twice.to(at::kCPU)[0].item<float>() == 10);
  CHECK_THROWS_WITH(
      graph.record([&] { x.sum().item<float>(); }),
      Contains("waiting for the device (aten::_local_scalar_dense) while work is recorded"));
  graph.record([&] { twice = x * 3; });  // a recording that failed does not stand in the way
  graph.replay();
  CHECK(twice.to(at::kCPU)[0].item<float>() == 15);
}
