#include "run/model_folder.hpp"

#include <nlohmann/json.hpp>

#include "dkdm/checkpoint.hpp"
#include "dkdm/io.hpp"
#include "train/state_dict.hpp"

namespace dkdm::run {
namespace {

using Json = nlohmann::ordered_json;

Json to_json(const Value& value) {
  return std::visit([](const auto& held) { return Json(held); }, value);
}

// JSON does not tell 1 from 1.0 in a list that is empty, so the declared type decides.
Value from_json(const Json& json, const Value& like) {
  return std::visit(
      [&](const auto& held) { return Value(json.get<std::decay_t<decltype(held)>>()); }, like);
}

constexpr const char* kFile = "model.json";

}  // namespace

void write_model_description(const std::filesystem::path& folder,
                             const ModelDescription& description) {
  Json params = Json::object();
  for (const auto& [name, value] : description.student.params.values())
    params[name] = to_json(value);
  const Json json = {
      {"student",
       {{"plugin", description.student.name},
        {"version", description.student.version},
        {"params", params}}},
      {"image", {{"channels", description.spec.channels}, {"size", description.spec.size}}},
      {"diffusion",
       {{"schedule", description.diffusion.schedule},
        {"steps", description.diffusion.steps},
        {"beta_start", description.diffusion.beta_start},
        {"beta_end", description.diffusion.beta_end},
        {"variance", description.diffusion.variance},
        {"variance_range", description.diffusion.variance_range}}},
      {"trained_steps", description.steps}};
  io::write_text(folder / kFile, json.dump(2) + "\n");
}

ModelDescription read_model_description(const std::filesystem::path& folder,
                                        const plugin::Registry& registry) {
  const auto file = folder / kFile;
  if (!std::filesystem::exists(file))
    throw DataError(folder.string(), "not a trained model: it has no " + std::string(kFile));
  try {
    const auto json = Json::parse(io::read_text(file));
    const auto& student = json.at("student");
    const auto& info = registry.find("student", student.at("plugin"), file.string());
    std::map<std::string, Value> given;
    for (const auto& param : info.params)
      if (student.at("params").contains(param.name))
        given[param.name] = from_json(student.at("params").at(param.name), param.fallback);
    ModelDescription description;
    description.student = {"student", info.name, info.version,
                           Params(info.params, given, file.string())};
    description.spec = {json.at("image").at("channels"), json.at("image").at("size")};
    const auto& diffusion = json.at("diffusion");
    description.diffusion.schedule = diffusion.at("schedule");
    description.diffusion.steps = diffusion.at("steps");
    // Folders of before there was a choice do not have these.
    const DiffusionConfig fallback;
    description.diffusion.beta_start = diffusion.value("beta_start", fallback.beta_start);
    description.diffusion.beta_end = diffusion.value("beta_end", fallback.beta_end);
    description.diffusion.variance = diffusion.value("variance", fallback.variance);
    description.diffusion.variance_range =
        diffusion.value("variance_range", fallback.variance_range);
    description.steps = json.at("trained_steps");
    return description;
  } catch (const Json::exception& error) {
    throw DataError(file.string(), std::string("not a model description: ") + error.what());
  }
}

TrainedModel load_model(const std::filesystem::path& folder, const std::string& weights,
                        const plugin::Registry& registry) {
  const auto description = read_model_description(folder, registry);
  auto network = registry.student(description.student,
                                  {description.spec, description.diffusion}, /*seed=*/0);
  to_channels_last(*network);
  TensorMap target;
  for (const auto& entry : network->named_parameters()) {
    entry.value().set_requires_grad(false);
    target[entry.key()] = entry.value();
  }
  const auto file = folder / (weights + ".safetensors");
  const auto tensors = io::load_tensors(file);
  io::check_finite({.path = "", .tensors = {tensors.begin(), tensors.end()}}, file);
  train::copy_strictly(tensors, target, file.string());
  network->eval();
  return {network, description.diffusion, description.spec};
}

std::shared_ptr<Denoiser> untrained_student(const std::string& name,
                                            const std::map<std::string, Value>& values,
                                            const StudentContext& context,
                                            const plugin::Registry& registry) {
  const auto& info = registry.find("student", name);
  auto network = registry.student(
      {info.kind, info.name, info.version, Params(info.params, values, name)}, context, /*seed=*/0);
  to_channels_last(*network);
  for (auto& parameter : network->parameters()) parameter.set_requires_grad(false);
  network->eval();
  return network;
}

std::filesystem::path kept_folder(const std::filesystem::path& trained, std::int64_t step) {
  return trained / ("step-" + std::to_string(step));
}

std::int64_t count_parameters(const torch::nn::Module& network) {
  std::int64_t count = 0;
  for (const auto& parameter : network.parameters()) count += parameter.numel();
  return count;
}

void to_channels_last(torch::nn::Module& network) {
  at::NoGradGuard no_grad;
  for (auto& parameter : network.parameters())
    if (parameter.dim() == 4)
      parameter.set_data(parameter.detach().contiguous(at::MemoryFormat::ChannelsLast));
}

}  // namespace dkdm::run
