// Files that the teachers cannot use: one line that says what, where, and what would be right; exit
// code 3 for a file at fault, 2 for a parameter.
#include <ATen/ATen.h>
#include <torch/csrc/jit/api/module.h>

#include <catch2/catch.hpp>

#include <limits>

#include "dkdm/files.hpp"
#include "fixtures/golden_file.hpp"
#include "fixtures/teachers.hpp"

using namespace dkdm;
using Catch::Contains;
using fixtures::CountingHost;
using fixtures::Json;
using fixtures::ScratchFolder;

namespace {

constexpr ImageSpec kSpec{3, 8, 8};
using Given = std::map<std::string, Value>;

struct Failure {
  std::string text;
  ExitCode code = ExitCode::done;
};

Failure failure(const std::string& name, const Given& given) {
  CountingHost host;
  try {
    fixtures::teacher(name, given, host)->load();
  } catch (const Error& error) {
    return {error.what(), error.exit_code()};
  }
  return {"loaded", ExitCode::done};
}

class Guided {
 public:
  Guided() : weights(fixtures::filled_weights(fixtures::small_unet(), kSpec)) {}

  Failure load(const Given& more = {}) {
    io::write_torch(scratch.path / "teacher.pt", weights);
    Given given{{"path", (scratch.path / "teacher.pt").string()}, {"image_size", std::int64_t{8}}};
    for (const auto& [name, value] : more) given[name] = value;
    return failure("guided-diffusion", given);
  }

  at::Tensor& operator[](const std::string& name) {
    for (auto& [key, tensor] : weights)
      if (key == name) return tensor;
    FAIL("no tensor " << name);
    return weights.front().second;
  }

  ScratchFolder scratch;
  io::NamedTensors weights;
};

void write_module(const std::filesystem::path& file, const std::string& body) {
  torch::jit::Module module("__torch__.network");
  module.define("def forward(self, x: Tensor, t: Tensor):\n    return " + body + "\n");
  module.save(file.string());
}

// The golden folder ddpm-cifar10 with changes to its two JSON files.
class Folder {
 public:
  Folder() : golden_(fixtures::golden_json("diffusers.json").at("networks").at("ddpm-cifar10")) {
    config = golden_.at("config");
    scheduler = golden_.at("scheduler");
    tensors = fixtures::filled(golden_.at("tensors"));
  }

  Failure load(const Given& more = {}) {
    io::write_text(scratch.path / "config.json", config.dump());
    io::write_text(scratch.path / "scheduler_config.json", scheduler.dump());
    io::write_safetensors(scratch.path / "diffusion_pytorch_model.safetensors", tensors);
    Given given{{"path", scratch.path.string()}};
    given.insert(more.begin(), more.end());
    return failure("diffusers", given);
  }

  ScratchFolder scratch;
  Json config, scheduler;
  io::NamedTensors tensors;

 private:
  Json golden_;
};

}  // namespace

TEST_CASE("teachers: a path that is not set, and one where nothing is", "[robustness][teachers]") {
  const auto name = GENERATE(as<std::string>{}, "guided-diffusion", "torchscript", "diffusers");
  const Failure unset = failure(name, {});
  CHECK_THAT(unset.text, Contains("teacher " + name + ": path is not set"));
  CHECK(unset.code == ExitCode::usage);
  const Failure missing = failure(name, {{"path", "/nowhere/teacher.pt"}});
  CHECK_THAT(missing.text, Contains("/nowhere/teacher.pt: no such file"));
  CHECK(missing.code == ExitCode::missing);
}

TEST_CASE("guided-diffusion: missing, extra and misshapen tensors are listed",
          "[robustness][teachers]") {
  Guided file;
  REQUIRE(file.load().text == "loaded");
  file["middle_block.1.qkv.weight"] = at::zeros({10, 64, 1});
  std::erase_if(file.weights,
                [](const auto& entry) { return entry.first == "middle_block.0.in_layers.0.bias"; });
  file.weights.emplace_back("surplus.weight", at::zeros({1}));
  const Failure failed = file.load();
  CHECK_THAT(failed.text, Contains("teacher.pt") && Contains("middle_block.0.in_layers.0.bias") &&
                              Contains("surplus.weight") && Contains("middle_block.1.qkv.weight"));
  CHECK(failed.code == ExitCode::missing);
}

TEST_CASE("guided-diffusion: a weight that is not a number is named", "[robustness][teachers]") {
  Guided file;
  file["out.2.weight"][1][2][0][0] = std::numeric_limits<float>::quiet_NaN();
  const Failure failed = file.load();
  CHECK_THAT(failed.text, Contains("out.2.weight"));
  CHECK(failed.code == ExitCode::missing);
}

TEST_CASE("guided-diffusion: an unknown layout says what was recognised",
          "[robustness][teachers]") {
  Guided file;
  std::erase_if(file.weights, [](const auto& entry) { return entry.first.starts_with("output_"); });
  CHECK_THAT(file.load().text, Contains("teacher.pt: holds no network that the teacher "
                                        "guided-diffusion knows") &&
                                   Contains("classifier"));
  file.weights = {{"fc.weight", at::zeros({2, 2})}};
  CHECK_THAT(file.load().text, Contains("its tensors are fc.weight"));
  CHECK(file.load().code == ExitCode::missing);
}

TEST_CASE("guided-diffusion: a network conditioned on an image is refused",
          "[robustness][teachers]") {
  Guided file;
  file["input_blocks.0.0.weight"] = at::zeros({32, 6, 3, 3});
  file["out.2.weight"] = at::zeros({3, 32, 3, 3});
  CHECK_THAT(file.load().text, Contains("takes 6 channels and returns 3"));
}

TEST_CASE("guided-diffusion: parameters that the file contradicts", "[robustness][teachers]") {
  Guided file;
  const auto message = [&](const Given& given) {
    const Failure failed = file.load(given);
    CHECK(failed.code == ExitCode::usage);
    return failed.text;
  };
  CHECK_THAT(message({{"label", std::int64_t{1}}}), Contains("is not class-conditional"));
  CHECK_THAT(message({{"image_size", std::int64_t{0}}}), Contains("set image_size"));
  CHECK_THAT(message({{"image_size", std::int64_t{9}}}), Contains("cannot be halved"));
  CHECK_THAT(message({{"num_heads", std::int64_t{2}}, {"num_head_channels", std::int64_t{16}}}),
             Contains("leave one of them out"));
  CHECK_THAT(message({{"num_heads", std::int64_t{5}}}), Contains("num_heads is 5"));
  file.weights.insert(file.weights.begin() + 4, {"label_emb.weight", at::zeros({10, 128})});
  CHECK_THAT(message({}), Contains("conditional on 10 classes") && Contains("set label to 0 … 9"));
  CHECK_THAT(message({{"label", std::int64_t{10}}}), Contains("got 10"));
  CHECK(file.load({{"label", std::int64_t{9}}}).text == "loaded");
}

TEST_CASE("guided-diffusion: a dictionary that is not there", "[robustness][teachers]") {
  Guided file;
  const Failure failed = file.load({{"state", "ema"}});
  CHECK_THAT(failed.text, Contains("teacher.pt") && Contains("ema"));
  CHECK(failed.code == ExitCode::missing);
}

TEST_CASE("torchscript: anything else than a fitting module is one clear line",
          "[robustness][teachers]") {
  ScratchFolder scratch;
  const auto file = scratch.path / "module.pt";
  const auto message = [&](const Given& more = {}) {
    Given given{{"path", file.string()}, {"image_size", std::int64_t{8}}};
    for (const auto& [name, value] : more) given[name] = value;
    const Failure failed = failure("torchscript", given);
    CHECK(failed.code == ExitCode::missing);
    CHECK(failed.text.find('\n') == std::string::npos);
    return failed.text;
  };
  io::write_text(file, "not a module");
  CHECK_THAT(message(), Contains("is not a TorchScript module"));
  io::write_text(file, "");
  CHECK_THAT(message(), Contains("is not a TorchScript module"));
  io::write_torch(file, {{"weight", at::zeros({2})}});
  CHECK_THAT(message(), Contains("is not a TorchScript module") && Contains("guided-diffusion"));
  write_module(file, "x");
  const std::string whole = io::read_text(file);
  io::write_text(file, whole.substr(0, whole.size() / 2));
  CHECK_THAT(message(), Contains("is not a TorchScript module"));

  torch::jit::Module("__torch__.empty").save(file.string());
  CHECK_THAT(message(), Contains("no method forward"));
  write_module(file, "(x, t)");
  CHECK_THAT(message(), Contains("expected one tensor"));
  write_module(file, "x[:, :2]");
  CHECK_THAT(message(), Contains("[2, 2, 8, 8]") && Contains("3 or 6 channels"));
  write_module(file, "x.long()");
  CHECK_THAT(message(), Contains("expected floats"));
  write_module(file, "x / 0.0");
  CHECK_THAT(message(), Contains("not finite"));
  write_module(file, "x - x.mean()");
  CHECK_THAT(message(), Contains("another output alone"));
  write_module(file, "x + torch.zeros([1, 3, 4, 4])");
  CHECK_THAT(message(), Contains("forward(x, t) failed"));
}

TEST_CASE("diffusers: what the network cannot be is refused by the key's name",
          "[robustness][teachers]") {
  Folder folder;
  REQUIRE(folder.load().text == "loaded");
  const auto key = GENERATE(table<std::string, Json, std::string>({
      {"class_embed_type", "timestep", "class_embed_type = \"timestep\" is not supported"},
      {"num_class_embeds", 10, "num_class_embeds = 10"},
      {"time_embedding_type", "fourier", "time_embedding_type is \"fourier\""},
      {"down_block_types", Json::array({"SkipDownBlock2D", "DownBlock2D", "DownBlock2D"}),
       "SkipDownBlock2D"},
      {"downsample_type", "resnet", "downsample_type is \"resnet\""},
      {"act_fn", "gelu", "act_fn"},
      {"_class_name", "UNet2DConditionModel", "UNet2DConditionModel"},
      {"block_out_channels", Json::array({32, 64}), "2, 3 and 3 entries"},
      {"block_out_channels", Json::array({32, 64, 40}), "block_out_channels has 40"},
      {"block_out_channels", "wide", "block_out_channels is \"wide\""},
      {"attention_head_dim", 48, "attention_head_dim is 48"},
      {"layers_per_block", 0, "layers_per_block"},
      {"sample_size", Json::array({8, 16, 16}), "at most 2 integers"},
      {"norm_num_groups", nullptr, "norm_num_groups"},
      {"out_channels", 6, "out_channels is 6, expected 3"},
      {"quantization_config", Json{{"quant_type", "int8"}}, "quantization_config"},
  }));
  folder.config[std::get<0>(key)] = std::get<1>(key);
  const Failure failed = folder.load();
  CHECK_THAT(failed.text, Contains("config.json") && Contains(std::get<2>(key)));
  CHECK(failed.code == ExitCode::missing);
}

TEST_CASE("diffusers: a process that is not DDPM's is refused by the key's name",
          "[robustness][teachers]") {
  Folder folder;
  const auto key = GENERATE(table<std::string, Json, std::string>({
      {"_class_name", "ScoreSdeVeScheduler", "ScoreSdeVeScheduler"},
      {"beta_schedule", "sigmoid", "beta_schedule is \"sigmoid\""},
      {"trained_betas", Json::array({0.1, 0.2}), "trained_betas"},
      {"prediction_type", "flow_prediction", "prediction_type"},
      {"variance_type", "learned", "variance_type is \"learned\""},
      {"variance_type", "learned_range", "out_channels is 3, expected 6"},
      {"rescale_betas_zero_snr", true, "rescale_betas_zero_snr"},
      {"num_train_timesteps", "many", "num_train_timesteps is \"many\""},
  }));
  folder.scheduler[std::get<0>(key)] = std::get<1>(key);
  const Failure failed = folder.load();
  CHECK_THAT(failed.text, Contains(std::get<2>(key)));
  CHECK(failed.code == ExitCode::missing);
}

TEST_CASE("diffusers: a number that makes no sense is refused by key, value and range",
          "[robustness][teachers]") {
  const auto key = GENERATE(table<std::string, Json, std::string>({
      {"layers_per_block", 300000, "layers_per_block is 300000, expected an integer of 1…64"},
      {"layers_per_block", 2147483648, "layers_per_block is 2147483648"},
      {"layers_per_block", 18446744073709551615u, "layers_per_block is 18446744073709551615"},
      {"layers_per_block", 1.5, "layers_per_block is 1.5, expected an integer"},
      {"layers_per_block", 1e300, "layers_per_block is 1e+300"},
      {"block_out_channels", Json::array({32, 64, 1 << 30}), "block_out_channels is 1073741824"},
      {"block_out_channels", Json(std::vector<int>(17, 32)), "a list of at most 16 integers"},
      {"sample_size", 1000000, "sample_size is 1000000, expected an integer of 1…4096"},
      {"in_channels", -3, "in_channels is -3, expected an integer of 1…64"},
      {"norm_num_groups", 0, "norm_num_groups is 0"},
      {"norm_eps", 1e300, "norm_eps is 1e+300, expected a number of 0…1"},
      {"attention_head_dim", 4294967296, "attention_head_dim is 4294967296"},
      {"time_embedding_dim", 1000000, "time_embedding_dim is 1000000"},
  }));
  Folder folder;
  folder.config[std::get<0>(key)] = std::get<1>(key);
  const Failure failed = folder.load();
  CHECK_THAT(failed.text,
             Contains("config.json: " + std::get<0>(key) + " is ") && Contains(std::get<2>(key)));
  CHECK(failed.code == ExitCode::missing);

  Folder process;
  process.scheduler["num_train_timesteps"] = 2000000000;
  CHECK_THAT(process.load().text,
             Contains("scheduler_config.json: num_train_timesteps is 2000000000, "
                      "expected an integer of 2…100000"));
}

TEST_CASE("diffusers: files that are missing or damaged, and weights that do not fit",
          "[robustness][teachers]") {
  Folder folder;
  folder.tensors.pop_back();
  CHECK_THAT(folder.load().text, Contains("conv_out.bias"));
  folder.tensors.front().second = at::full({32, 3, 3, 3}, std::numeric_limits<float>::infinity());
  CHECK_THAT(folder.load().text, Contains("conv_in.weight"));

  const Given given{{"path", folder.scratch.path.string()}};
  io::write_text(folder.scratch.path / "config.json", "{");
  CHECK_THAT(failure("diffusers", given).text, Contains("config.json: is not JSON"));
  std::filesystem::remove(folder.scratch.path / "scheduler_config.json");
  CHECK_THAT(failure("diffusers", given).text,
             Contains("has no scheduler") && Contains("scheduler/scheduler_config.json"));
  std::filesystem::remove(folder.scratch.path / "diffusion_pytorch_model.safetensors");
  CHECK_THAT(failure("diffusers", given).text, Contains("has no weights"));
  std::filesystem::remove(folder.scratch.path / "config.json");
  const Failure failed = failure("diffusers", given);
  CHECK_THAT(failed.text, Contains("has no model description"));
  CHECK(failed.code == ExitCode::missing);
}
