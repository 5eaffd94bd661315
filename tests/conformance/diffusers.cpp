// The teacher diffusers against the Python package: golden/diffusers.json (make_diffusers.py; the
// package's version is in the file).
#include <ATen/ATen.h>

#include <catch2/catch.hpp>

#include "dkdm/diffusion.hpp"
#include "dkdm/io.hpp"
#include "fixtures/golden_file.hpp"
#include "fixtures/teachers.hpp"

using namespace dkdm;
using fixtures::Json;

namespace {

const Json& networks() {
  static const Json json = fixtures::golden_json("diffusers.json").at("networks");
  return json;
}

std::string replaced(std::string text, const std::string& part, const std::string& with) {
  if (const auto at = text.find(part); at != std::string::npos) text.replace(at, part.size(), with);
  return text;
}

// A folder as the package saves one: alone with its scheduler, or a pipeline.
std::filesystem::path write_folder(const std::filesystem::path& root, const Json& golden,
                                   bool pipeline, bool old_names) {
  const auto model = pipeline ? root / "unet" : root;
  const auto scheduler = pipeline ? root / "scheduler" : root;
  std::filesystem::create_directories(model);
  std::filesystem::create_directories(scheduler);
  io::write_text(model / "config.json", golden.at("config").dump());
  io::write_text(scheduler / "scheduler_config.json", golden.at("scheduler").dump());
  io::NamedTensors tensors = fixtures::filled(golden.at("tensors"));
  for (auto& [name, tensor] : tensors) {
    if (!old_names || name.find("attentions.") == std::string::npos) continue;
    name = replaced(replaced(name, ".to_q.", ".query."), ".to_k.", ".key.");
    name = replaced(replaced(name, ".to_v.", ".value."), ".to_out.0.", ".proj_attn.");
  }
  if (old_names) io::write_torch(model / "diffusion_pytorch_model.bin", tensors);
  else io::write_safetensors(model / "diffusion_pytorch_model.safetensors", tensors);
  return root;
}

TrainedModel load(const std::filesystem::path& folder) {
  fixtures::CountingHost host;
  return fixtures::teacher("diffusers", {{"path", folder.string()}}, host)->load();
}

void check_output(const TrainedModel& model, const Json& golden) {
  const at::NoGradGuard no_grad;
  const at::Tensor t = at::tensor({std::int64_t{7}, model.diffusion.steps - 7}, at::kLong);
  // A predicted image becomes eps by a division by 1 - alpha_bar, 0.007 at t = 7, and the package's
  // alpha_bar is a float32 product of eight factors: 2e-7 in all, 1.5e-5 of the root.
  const bool divided = golden.at("scheduler").at("prediction_type") == "sample";
  fixtures::check_numbers(
      model.network->forward(fixtures::probe(model.spec), t), golden.at("output"),
      6 * golden.at("output").at("rounding").get<double>() + (divided ? 1.5e-5 : 0));
}

}  // namespace

TEST_CASE("diffusers: eps and variance agree with the Python package", "[conformance][teachers]") {
  for (const auto& [name, golden] : networks().items()) {
    INFO(name);
    fixtures::ScratchFolder scratch;
    const TrainedModel model = load(write_folder(scratch.path, golden, false, false));
    CHECK(model.spec.size == 8);
    check_output(model, golden);
    for (const auto& parameter : model.network->parameters()) CHECK_FALSE(parameter.requires_grad());
  }
}

TEST_CASE("diffusers: a pipeline's folder, its unet/ alone, and a .bin with the old names load alike",
          "[conformance][teachers]") {
  const Json& golden = networks().at("ddpm-cifar10");
  fixtures::ScratchFolder scratch;
  const auto pipeline = write_folder(scratch.path / "pipeline", golden, true, true);
  check_output(load(pipeline), golden);
  check_output(load(pipeline / "unet"), golden);
}

TEST_CASE("diffusers: the schedule is the scheduler's own", "[conformance][teachers]") {
  for (const auto& [name, golden] : networks().items()) {
    INFO(name);
    fixtures::ScratchFolder scratch;
    const TrainedModel model = load(write_folder(scratch.path, golden, false, false));
    const GaussianDiffusion process(model.diffusion);
    const auto steps = golden.at("steps").get<std::vector<std::int64_t>>();
    for (std::size_t i = 0; i < steps.size(); ++i) {
      const auto step = static_cast<std::size_t>(steps[i]);
      // The package's tables are float32 products of float32 factors: 1e-5, and the cosine
      // schedule's last factor, 1 - 0.999, keeps four digits.
      CHECK(process.tables().alpha_bar[step] ==
            Approx(golden.at("alpha_bar")[i].get<double>())
                .epsilon(step + 1 == process.tables().beta.size() ? 1e-4 : 1e-5));
    }
    if (!golden.contains("log_variance")) continue;
    const at::Tensor x = at::zeros({1, model.spec.channels, 8, 8});
    for (std::size_t i = 1; i < steps.size(); ++i) {  // at t = 0 no noise is added
      const at::Tensor t = at::tensor({steps[i]}, at::kLong);
      const auto p = process.p_mean_variance(x, x, t, /*clip=*/false);
      CHECK(p.log_variance.flatten()[0].item<double>() ==
            Approx(golden.at("log_variance")[i - 1].get<double>()).epsilon(1e-4).margin(1e-4));
    }
  }
}
