// Teachers of other programs' files on a device that is not the CPU: the CPU's bits, and what of a
// TorchScript program moves there.
#include <ATen/ATen.h>
#include <torch/csrc/jit/api/module.h>

#include <catch2/catch.hpp>

#include "dkdm/files.hpp"
#include "fake_device/compare.hpp"
#include "fixtures/golden_file.hpp"
#include "fixtures/teachers.hpp"

using namespace dkdm;
using namespace fake_device;
using Catch::Matchers::Contains;
using fixtures::ScratchFolder;

namespace {

constexpr ImageSpec kSpec{3, 8, 8};

using Given = std::map<std::string, Value>;

// What teacher `name` answers on `where`, loaded as the program loads it.
Tensor answer(const std::string& name, const Given& given, at::Device where,
              Counters* counters = nullptr) {
  fixtures::HostOn host(where);
  const TrainedModel model = fixtures::teacher(name, given, host)->load();
  model.network->to(where);
  const at::NoGradGuard no_grad;
  const Tensor x = fixtures::probe(model.shape).to(where);
  const Tensor t = at::tensor({std::int64_t{7}, model.diffusion.steps - 7}, at::kLong).to(where);
  model.network->forward(x, t);
  reset_counters();
  const Tensor out = model.network->forward(x, t);
  if (counters) *counters = fake_device::counters();
  return out;
}

void check_alike(const std::string& name, const Given& given) {
  Counters counters;
  const Tensor there = answer(name, given, device(), &counters);
  const Tensor here = answer(name, given, at::kCPU);
  CHECK(there.device() == device());
  CHECK(at::equal(there.cpu(), here));
  CHECK(counters.synchronisations() == 0);
  CHECK(counters.to_host.calls == 0);
  CHECK(counters.to_device.blocking == 0);
}

// A module with all that one can hold: a parameter, a buffer and a plain tensor.
torch::jit::Module module(const std::string& body) {
  torch::jit::Module made("__torch__.network");
  made.register_parameter("scale", at::full({1}, 0.5), /*is_buffer=*/false);
  made.register_buffer("offset", at::linspace(-1, 1, 8));
  made.register_attribute("slope", at::TensorType::get(), at::linspace(0, 1, 8).view({8, 1}));
  made.define("def forward(self, x: Tensor, t: Tensor):\n" + body);
  made.eval();
  return made;
}

const char* const kBody =
    "    return self.scale * x + self.offset * torch.exp(self.slope) + "
    "0.001 * t.float().view(-1, 1, 1, 1)\n";

Given scripted(const std::filesystem::path& file, const std::string& prediction) {
  return {{"path", file.string()}, {"image_size", std::int64_t{8}}, {"prediction", prediction}};
}

}  // namespace

TEST_CASE("teachers on a device: a TorchScript module with all that it holds",
          "[unit][on_device]") {
  const ScratchFolder scratch;
  const auto file = scratch.path / "module.pt", frozen = scratch.path / "frozen.pt";
  module(kBody).save(file.string());
  // Freezing makes constants of the graph of what the module held.
  torch::jit::freeze(module(kBody)).save(frozen.string());
  for (const char* prediction : {"epsilon", "v_prediction", "sample"}) {
    INFO(prediction);
    check_alike("torchscript", scripted(file, prediction));
    check_alike("torchscript", scripted(frozen, prediction));
  }
}

TEST_CASE("teachers on a device: a program that names the CPU is one clear line",
          "[unit][on_device]") {
  const ScratchFolder scratch;
  const auto file = scratch.path / "traced.pt";
  module("    return x * torch.arange(8, dtype=6, device=\"cpu\")\n").save(file.string());
  CHECK(answer("torchscript", scripted(file, "epsilon"), at::kCPU).is_cpu());
  CHECK_THROWS_WITH(answer("torchscript", scripted(file, "epsilon"), device()),
                    Contains("traced.pt") && Contains("its program names the device cpu") &&
                        Contains("the network is on fake:0") && Contains("--device cpu"));
}

TEST_CASE("teachers on a device: networks of the package diffusers", "[unit][on_device]") {
  const auto networks = fixtures::golden_json("diffusers.json").at("networks");
  for (const auto& [name, golden] : networks.items()) {
    INFO(name);
    const ScratchFolder scratch;
    io::write_text(scratch.path / "config.json", golden.at("config").dump());
    io::write_text(scratch.path / "scheduler_config.json", golden.at("scheduler").dump());
    io::write_safetensors(scratch.path / "diffusion_pytorch_model.safetensors",
                          fixtures::filled(golden.at("tensors")));
    check_alike("diffusers", {{"path", scratch.path.string()}});
  }
}

TEST_CASE("teachers on a device: checkpoints of guided-diffusion", "[unit][on_device]") {
  const ScratchFolder scratch;
  const auto file = scratch.path / "tiny.safetensors";
  io::write_safetensors(file, fixtures::filled_weights(fixtures::small_unet(), kSpec));
  for (const bool predict_xstart : {false, true}) {
    check_alike("guided-diffusion", {{"path", file.string()},
                                     {"image_size", std::int64_t{8}},
                                     {"steps", std::int64_t{4000}},
                                     {"rescale_timesteps", std::string("on")},
                                     {"predict_xstart", predict_xstart}});
  }
}
