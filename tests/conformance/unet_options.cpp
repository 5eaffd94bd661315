// adm-unet at every option of the reference's UNetModel, against golden/unet_options.json
// (make_unet_options.py: source commit and PyTorch version are in the file); and the teacher
// guided-diffusion, which finds those options in a file by itself.
#include <ATen/ATen.h>

#include <catch2/catch.hpp>

#include "dkdm/files.hpp"
#include "fixtures/golden_file.hpp"
#include "fixtures/teachers.hpp"

using namespace dkdm;
using fixtures::Json;

namespace {

const Json& networks() {
  static const Json json = fixtures::golden_json("unet_options.json").at("networks");
  return json;
}

std::map<std::string, Value> student_values(const Json& params) {
  std::map<std::string, Value> values;
  for (const auto& [name, value] : params.items()) {
    if (value.is_boolean()) values[name] = value.get<bool>();
    else if (value.is_array()) values[name] = value.get<std::vector<std::int64_t>>();
    else values[name] = value.get<std::int64_t>();
  }
  return values;
}

// The weights of a golden network: filled in the order of the reference, whose label table, where
// there is one, comes after the time embedding.
io::NamedTensors weights(const std::string& name, const SampleShape& shape) {
  auto tensors = fixtures::filled_weights(student_values(networks().at(name).at("student")), shape);
  if (name == "classes")
    tensors.insert(tensors.begin() + 4, {"label_emb.weight", at::empty({10, 128})});
  std::int64_t i = 0;
  for (auto& [key, tensor] : tensors) tensor = golden::parameter_fill(i++, key, tensor.sizes());
  return tensors;
}

SampleShape shape_of(const Json& network) {
  return {network.at("channels").get<std::int64_t>(), 8, 8};
}

}  // namespace

TEST_CASE("unet options: names, order, shapes and outputs are the reference's",
          "[conformance][students]") {
  const at::NoGradGuard no_grad;
  for (const auto& [name, golden] : networks().items()) {
    INFO(name);
    const SampleShape shape = shape_of(golden);
    CHECK(io::sha256(fixtures::layout(weights(name, shape))) ==
          golden.at("layout").get<std::string>());
    if (name == "classes") continue;  // no student, but a teacher below
    const auto network = fixtures::student("adm-unet", student_values(golden.at("student")), shape);
    fixtures::fill_parameters(*network);
    network->eval();
    fixtures::check_numbers(network->forward(fixtures::probe(shape), fixtures::probe_time()),
                            golden.at("output"));
  }
}

TEST_CASE("unet options: guided-diffusion infers them from the file", "[conformance][teachers]") {
  const at::NoGradGuard no_grad;
  fixtures::ScratchFolder scratch;
  const auto file = scratch.path / "model.pt";
  for (const auto& [name, golden] : networks().items()) {
    INFO(name);
    const SampleShape shape = shape_of(golden);
    io::write_torch(file, weights(name, shape));
    // What no tensor shows.
    std::map<std::string, Value> given{
        {"path", file.string()}, {"image_size", std::int64_t{8}}, {"attention_order", "new"}};
    if (name == "legacy attention order") given["attention_order"] = "legacy";
    if (name == "heads by number") {
      given["num_heads"] = std::int64_t{2};
      given["num_heads_upsample"] = std::int64_t{4};
    } else {
      given["num_head_channels"] = std::int64_t{16};
    }
    if (name == "classes") given["label"] = std::int64_t{3};
    fixtures::CountingHost host;
    const TrainedModel model = fixtures::teacher("guided-diffusion", given, host)->load();
    CHECK(model.shape == shape);
    fixtures::check_numbers(model.network->forward(fixtures::probe(shape), fixtures::probe_time()),
                            golden.at("output"));
  }
}
