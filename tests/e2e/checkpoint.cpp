// dkdm checkpoint through the real program: files of PyTorch, and a trained model's export.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "dkdm/checkpoint.hpp"
#include "dkdm/io.hpp"
#include "e2e/program.hpp"
#include "fixtures/students.hpp"

namespace {

using e2e::Output;
using e2e::Program;
using nlohmann::json;
namespace fs = std::filesystem;
namespace io = dkdm::io;

const fs::path kFixtures = fs::path(DKDM_SOURCE_DIR) / "tests/fixtures/checkpoints/torch-1.13.1";

std::vector<json> rows_of(const std::string& text, const std::string& what) {
  std::vector<json> rows;
  for (const json& row : json::parse(text)) {
    if (row.at("what") == what) rows.push_back(row);
  }
  return rows;
}

}  // namespace

TEST_CASE("checkpoint inspect: format, dictionaries, tensors and values of a training's file",
          "[e2e][checkpoint]") {
  const Program dkdm;
  const Output said =
      dkdm.run({"checkpoint", "inspect", (kFixtures / "training.pt").string(), "--format", "json"});
  INFO(said.err);
  REQUIRE(said.exit_code == 0);
  CHECK(rows_of(said.out, "format").at(0).at("value") == "torch zip");
  const json dictionary = rows_of(said.out, "dictionary").at(0);
  CHECK(dictionary.at("dictionary") == "state_dict");
  CHECK(dictionary.at("value") == "8 tensors");
  // Convolution 3x2x3x3 + 3, normalisation 4 x 3 + 1, linear 3x4.
  CHECK(dictionary.at("parameters") == 54 + 3 + 13 + 12);
  const json tensor = rows_of(said.out, "tensor").at(0);
  CHECK(tensor.at("name") == "0.weight");
  CHECK(tensor.at("type") == "float32");
  CHECK(tensor.at("shape") == "3x2x3x3");
  bool epoch = false;
  for (const json& row : rows_of(said.out, "value")) {
    epoch = epoch || (row.at("name") == "epoch" && row.at("value") == "3");
  }
  CHECK(epoch);
}

TEST_CASE("checkpoint convert: the named dictionary, by the output's ending", "[e2e][checkpoint]") {
  const Program dkdm;
  const fs::path source = kFixtures / "views.pt", out = dkdm.home() / "ema.safetensors";
  const Output said =
      dkdm.run({"checkpoint", "convert", source.string(), out.string(), "--state", "ema"});
  INFO(said.err);
  REQUIRE(said.exit_code == 0);
  CHECK(said.out == out.string() + "\n");
  const auto original = io::read_checkpoint(source);
  const io::StateDict& ema = io::select_state(original, "ema", source);
  const auto converted = io::load_tensors(out);
  REQUIRE(converted.size() == ema.tensors.size());
  for (const auto& [name, tensor] : ema.tensors) CHECK(at::equal(converted.at(name), tensor));

  CHECK(dkdm.run({"checkpoint", "convert", source.string(), "x.npz"}).exit_code == 2);
  CHECK(dkdm.run({"checkpoint", "inspect", (dkdm.home() / "none.pt").string()}).exit_code == 3);
  CHECK(dkdm.run({"checkpoint"}).exit_code == 2);
  CHECK(dkdm.run({"checkpoint", "convert", source.string()}).exit_code == 2);
}

TEST_CASE("checkpoint export: a trained model's weights under the reference's names, in its order",
          "[e2e][checkpoint]") {
  const Program dkdm;
  const std::string name = "adm-unet";
  const std::map<std::string, dkdm::Value> given{
      {"model_channels", std::int64_t{32}},
      {"num_res_blocks", std::int64_t{1}},
      {"channel_mult", std::vector<std::int64_t>{1, 2}},
      {"attention_resolutions", std::vector<std::int64_t>{4}}};
  const dkdm::SampleShape shape{1, 8, 8};
  const auto network = dkdm::fixtures::student(name, given, shape);
  dkdm::fixtures::fill_parameters(*network);
  const auto& plugin = dkdm::fixtures::registry().find("student", name);
  dkdm::model::ModelDescription description;
  description.student = {"student", name, plugin.version, dkdm::Params(plugin.params, given)};
  description.shape = shape;
  const fs::path folder = dkdm.home() / "model", out = dkdm.home() / "student.pt";
  fs::create_directory(folder);
  dkdm::model::write_model_description(folder, description);
  const io::NamedTensors weights = io::state_of(*network);
  io::save_tensors(folder / "ema.safetensors", {weights.begin(), weights.end()});

  const Output said =
      dkdm.run({"checkpoint", "export", folder.string(), out.string(), "--weights", "ema"});
  INFO(said.err);
  REQUIRE(said.exit_code == 0);
  const auto exported = io::read_checkpoint(out);
  const auto& state = io::select_state(exported, "", out);
  REQUIRE(state.tensors.size() == weights.size());
  CHECK(state.tensors.front().first == "time_embed.0.weight");
  CHECK(state.tensors.back().first == "out.2.bias");
  for (std::size_t i = 0; i < weights.size(); ++i) {
    CAPTURE(weights[i].first);
    CHECK(state.tensors[i].first == weights[i].first);
    CHECK(at::equal(state.tensors[i].second, weights[i].second));
  }
  // What it is, by its tensors alone.
  const Output inspected = dkdm.run({"checkpoint", "inspect", out.string(), "--format", "json"});
  const std::string known = rows_of(inspected.out, "network").at(0).at("value");
  CHECK(known.find("guided-diffusion UNet: 1 channel in, 2 out") == 0);
  CHECK(known.find("levels of 32, 64 channels, 1 residual block each") != std::string::npos);
  CHECK(dkdm.run({"checkpoint", "export", folder.string(), out.string(), "--weights", "raw"})
            .exit_code == 3);
  {
    INFO("the file is a model to draw from, as the help of sample says");
    const auto images = dkdm.home() / "images.npz";
    const Output drawn = dkdm.run({"sample", out.string(), "-n", "2", "--respacing", "2", "--set",
                                   "image_size=8", "-o", images.string()});
    INFO(drawn.err);
    CHECK(drawn.exit_code == 0);
    CHECK(io::read_npz(images, "arr_0").sizes() == at::IntArrayRef({2, 8, 8, 1}));
    const Output none = dkdm.run({"sample", (dkdm.home() / "none.pt").string()});
    CHECK(none.exit_code == 3);
    CHECK(none.err.find("none.pt: no such file or folder") != std::string::npos);
    const Output other = dkdm.run({"sample", out.string(), "--teacher", "guided-difusion"});
    CHECK(other.exit_code == 2);
    CHECK(other.err.find("did you mean \"guided-diffusion\"?") != std::string::npos);
    const auto text = dkdm.write("text.pt", "not a checkpoint");
    const Output refused = dkdm.run({"sample", text.string()});
    CHECK(refused.exit_code == 3);
    CHECK(refused.err.find("--teacher NAME chooses another") != std::string::npos);
  }
  at::NoGradGuard no_grad;
  weights.back().second.fill_(std::numeric_limits<float>::quiet_NaN());
  io::save_tensors(folder / "raw.safetensors", {weights.begin(), weights.end()});
  const Output nan =
      dkdm.run({"checkpoint", "export", folder.string(), out.string(), "--weights", "raw"});
  CHECK(nan.exit_code == 3);
  CHECK(nan.err.find("tensor 'out.2.bias'") != std::string::npos);
}
