// The teacher diffusers against the Python package: golden/diffusers.json (make_diffusers.py; the
// package's version is in the file).
#include <ATen/ATen.h>

#include <catch2/catch.hpp>

#include "dkdm/diffusion.hpp"
#include "dkdm/files.hpp"
#include "dkdm/weights_kind.hpp"
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
      model.network->forward(fixtures::probe(model.shape), t), golden.at("output"),
      6 * golden.at("output").at("rounding").get<double>() + (divided ? 1.5e-5 : 0));
}

}  // namespace

TEST_CASE("diffusers: eps and variance agree with the Python package", "[conformance][teachers]") {
  for (const auto& [name, golden] : networks().items()) {
    INFO(name);
    fixtures::ScratchFolder scratch;
    const TrainedModel model = load(write_folder(scratch.path, golden, false, false));
    CHECK(model.shape.height == 8);
    check_output(model, golden);
    for (const auto& parameter : model.network->parameters())
      CHECK_FALSE(parameter.requires_grad());
  }
}

TEST_CASE(
    "diffusers: a pipeline's folder, its unet/ alone, and a .bin with the old names load alike",
    "[conformance][teachers]") {
  const Json& golden = networks().at("ddpm-cifar10");
  fixtures::ScratchFolder scratch;
  const auto pipeline = write_folder(scratch.path / "pipeline", golden, true, true);
  check_output(load(pipeline), golden);
  check_output(load(pipeline / "unet"), golden);
}

namespace {

// The folder with its weights under other names; `host` hears what is said.
struct Variants {
  Variants()
      : golden(networks().at("ddpm-cifar10")),
        folder(write_folder(scratch.path, golden, false, false)) {}

  std::filesystem::path file(const std::string& name) const { return folder / name; }
  TrainedModel load(const std::map<std::string, Value>& more = {}) {
    std::map<std::string, Value> given{{"path", folder.string()}};
    given.insert(more.begin(), more.end());
    auto teacher = fixtures::teacher("diffusers", given, host);
    weights = dynamic_cast<const StatesWeights&>(*teacher).weights();
    return teacher->load();
  }

  const Json& golden;
  fixtures::ScratchFolder scratch;
  std::filesystem::path folder;
  fixtures::CountingHost host;
  std::string weights;
};

const std::string kWeights = "diffusion_pytorch_model.safetensors";

}  // namespace

TEST_CASE("diffusers: the only variant is read, one of several when it is named",
          "[conformance][teachers]") {
  Variants saved;
  const auto fp16 = saved.file("diffusion_pytorch_model.fp16.safetensors");
  std::filesystem::rename(saved.file(kWeights), fp16);
  check_output(saved.load(), saved.golden);
  CHECK_THAT(saved.host.said, Catch::Contains("variant fp16"));

  io::write_safetensors(saved.file("diffusion_pytorch_model.bf16.safetensors"),
                        {{"x", at::ones({1})}});
  CHECK_THROWS_WITH(saved.load(), Catch::Contains("set variant to one of bf16, fp16"));
  check_output(saved.load({{"variant", "fp16"}}), saved.golden);
  CHECK_THROWS_WITH(saved.load({{"variant", "fp8"}}),
                    Catch::Contains("no weights of the variant \"fp8\""));
  // The plain ones go before any variant.
  std::filesystem::copy(fp16, saved.file(kWeights));
  check_output(saved.load(), saved.golden);
}

TEST_CASE("diffusers: shards are read by their index", "[conformance][teachers]") {
  Variants saved;
  const io::NamedTensors tensors = fixtures::filled(saved.golden.at("tensors"));
  Json map = Json::object();
  std::vector<io::NamedTensors> parts(2);
  const auto shard = [](std::size_t part) {
    return "diffusion_pytorch_model-0000" + std::to_string(part + 1) + "-of-00002.safetensors";
  };
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    parts[i % 2].push_back(tensors[i]);
    map[tensors[i].first] = shard(i % 2);
  }
  for (const std::size_t part : {0, 1}) io::write_safetensors(saved.file(shard(part)), parts[part]);
  const auto index = saved.file(kWeights + ".index.json");
  io::write_text(index, Json{{"metadata", Json::object()}, {"weight_map", map}}.dump());
  std::filesystem::remove(saved.file(kWeights));
  check_output(saved.load(), saved.golden);
  CHECK_THAT(saved.host.said, Catch::Contains("2 shards of"));

  std::filesystem::remove(saved.file(shard(1)));
  CHECK_THROWS_WITH(saved.load(), Catch::Contains("names the shard " + shard(1)) &&
                                      Catch::Contains("not complete"));
  io::write_text(index, R"({"weight_map": {"a": "../../etc/passwd"}})");
  CHECK_THROWS_WITH(saved.load(), Catch::Contains("is no file name"));
}

TEST_CASE("diffusers: unet_ema/ goes before unet/, and the variant non_ema is raw",
          "[conformance][teachers]") {
  Variants saved;
  const auto pipeline = saved.scratch.path / "checkpoint-500";
  for (const char* name : {"unet", "unet_ema"}) {
    std::filesystem::create_directories(pipeline / name);
    for (const std::string& file : {std::string("config.json"), kWeights})
      std::filesystem::copy(saved.file(file), pipeline / name / file);
  }
  // Its scheduler is the pipeline's, a folder above; EMAModel writes keys of its own.
  std::filesystem::create_directories(saved.scratch.path / "scheduler");
  std::filesystem::rename(saved.file("scheduler_config.json"),
                          saved.scratch.path / "scheduler/scheduler_config.json");
  Json config = saved.golden.at("config");
  config["decay"] = 0.9999;
  io::write_text(pipeline / "unet_ema/config.json", config.dump());
  saved.folder = pipeline;
  check_output(saved.load(), saved.golden);
  CHECK(saved.weights == "ema");
  CHECK_THAT(saved.host.said, Catch::Contains("unet_ema: UNet2DModel") &&
                                  Catch::Contains("recorded as ema weights") &&
                                  Catch::Contains("ignores: decay = 0.9999"));
  saved.load({{"weights", "raw"}});
  CHECK(saved.weights == "raw");

  saved.folder = pipeline / "unet";
  const auto raw = saved.folder / "diffusion_pytorch_model.non_ema.safetensors";
  std::filesystem::copy(saved.folder / kWeights, raw);
  saved.load();
  CHECK(saved.weights == "ema");
  saved.load({{"weights", "raw"}});
  CHECK(saved.weights == "raw");
}

TEST_CASE("diffusers: what its scheduler's sampler does otherwise is said",
          "[conformance][teachers]") {
  Variants saved;
  const auto said_with = [&](const Json& changed) {
    Json scheduler = saved.golden.at("scheduler");
    scheduler.update(changed);
    io::write_text(saved.file("scheduler_config.json"), scheduler.dump());
    saved.host.said.clear();
    saved.load();
    return saved.host.said;
  };
  CHECK_THAT(said_with(Json::object()),
             Catch::Contains("timestep_spacing leading: respacing \"ddimN\""));
  CHECK_THAT(said_with({{"timestep_spacing", "trailing"}}),
             Catch::Contains("no respacing keeps its steps"));
  CHECK_THAT(said_with({{"timestep_spacing", "linspace"}}), Catch::Contains("but for roundings"));
  CHECK_THAT(said_with({{"steps_offset", 1}}), Catch::Contains("steps_offset 1"));
  CHECK_THAT(said_with({{"clip_sample", false}}), Catch::Contains("clip_sample off"));
  CHECK_THAT(said_with({{"clip_sample_range", 2.0}}), Catch::Contains("clip_sample_range 2"));
  CHECK_THAT(said_with({{"thresholding", true}}), Catch::Contains("thresholding"));
  CHECK_THAT(said_with({{"set_alpha_to_one", false}}), Catch::Contains("set_alpha_to_one off"));
  CHECK_THAT(said_with({{"_class_name", "PNDMScheduler"}}),
             Catch::Contains("drawn by PNDMScheduler"));
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
    const at::Tensor x = at::zeros({1, model.shape.channels, 8, 8});
    for (std::size_t i = 1; i < steps.size(); ++i) {  // at t = 0 no noise is added
      const at::Tensor t = at::tensor({steps[i]}, at::kLong);
      const auto p = process.p_mean_variance(x, x, t, /*clip=*/false);
      CHECK(p.log_variance.flatten()[0].item<double>() ==
            Approx(golden.at("log_variance")[i - 1].get<double>()).epsilon(1e-4).margin(1e-4));
    }
  }
}
