#include "model/model_folder.hpp"

#include <type_traits>

#include "config/experiment.hpp"
#include "config/settings.hpp"
#include "dkdm/checkpoint.hpp"
#include "dkdm/documents.hpp"
#include "dkdm/files.hpp"
#include "dkdm/io.hpp"
#include "dkdm/json.hpp"
#include "error_text.hpp"
#include "model/image_limits.hpp"
#include "model/state_dict.hpp"
#include "plugin/param_check.hpp"
#include "record/artifact_store.hpp"

namespace dkdm::model {
namespace {

using Json = nlohmann::ordered_json;

Json to_json(const Value& value) {
  return std::visit([](const auto& held) { return Json(held); }, value);
}

// JSON does not tell 1 from 1.0 in a list that is empty, so the declared type decides; a value of
// another one throws Json::exception.
template <class T>
Value converted(const Json& json, const T&) {
  return io::as<T>(json);
}
template <class T>
Value converted(const Json& json, const std::vector<T>&) {
  std::vector<T> list;
  for (const Json& each : json.get_ref<const Json::array_t&>()) list.push_back(io::as<T>(each));
  return list;
}

// `json` as a value of `param`, in its range. Throws DataError naming file, key, value and range.
Value value_of(const Json& json, const Param& param, const std::string& file,
               const std::string& section) {
  Value value;
  try {
    const bool word = json.is_string() && std::holds_alternative<bool>(param.default_value) &&
                      !param.choices.empty();
    value = word ? Value(json.get<std::string>())
                 : std::visit([&](const auto& held) { return converted(json, held); },
                              param.default_value);
  } catch (const Json::exception&) {
    const std::string range = range_text(param);
    throw DataError(file, section + param.name + " is " + json.dump() + ", expected " +
                              type_name(param.default_value) + (range.empty() ? "" : ", " + range));
  }
  try {
    return checked(param, value, "");
  } catch (const ConfigError& error) {
    throw DataError(file, section + error.what());
  }
}

}  // namespace

void write_model_description(const std::filesystem::path& folder,
                             const ModelDescription& description) {
  Json params = Json::object();
  for (const auto& [name, value] : description.student.params.values())
    params[name] = to_json(value);
  Json diffusion = Json::object();
  for (const auto& [name, value] : config::diffusion_settings().values(description.diffusion))
    diffusion[name] = to_json(value);
  Json json = {{"student",
                {{"plugin", description.student.name},
                 {"version", description.student.version},
                 {"params", params}}},
               {"image",
                {{"channels", description.shape.channels},
                 {"height", description.shape.height},
                 {"width", description.shape.width}}},
               {"diffusion", diffusion},
               {"trained_steps", description.steps}};
  if (!description.images.empty()) json["trained_on"] = description.images;
  io::write_text(folder / kModelFile, json.dump(2) + "\n");
}

ModelDescription read_model_description(const std::filesystem::path& folder,
                                        const plugin::Registry& registry) {
  const auto file = folder / kModelFile;
  if (!std::filesystem::exists(file))
    throw DataError(folder.string(), "not a trained model: it has no " + std::string(kModelFile));
  try {
    const auto json = Json::parse(io::read_document(file));
    const auto& student = json.at("student");
    const auto& info =
        registry.find("student", io::as<std::string>(student.at("plugin")), file.string());
    std::map<std::string, Value> given;
    for (const auto& param : info.params)
      if (student.at("params").contains(param.name))
        given[param.name] =
            value_of(student.at("params").at(param.name), param, file.string(), "student.params.");
    ModelDescription description;
    description.student = {"student", info.name, info.version,
                           Params(info.params, given, file.string())};
    const auto stated = [&](const Json& section, const Param& param, const std::string& prefix) {
      return value_of(section.at(param.name), param, file.string(), prefix);
    };
    const auto whole = [&](const Json& section, const Param& param, const std::string& prefix) {
      return std::get<std::int64_t>(stated(section, param, prefix));
    };
    const Json& image = json.at("image");
    // Before images could be rectangular they had a "size".
    const auto side = [&](const char* name) {
      const char* written = image.contains("size") ? "size" : name;
      return whole(image, integer(written, 32, "").between(1, kLargestSide), "image.");
    };
    description.shape = {
        whole(image, integer("channels", 3, "").between(1, kMostChannels), "image."),
        side("height"), side("width")};
    const auto& settings = config::diffusion_settings();
    std::map<std::string, Value> process;
    for (const auto& [member, param] : settings.all())
      if (!param.is_added || json.at("diffusion").contains(param.name))
        process[param.name] = stated(json.at("diffusion"), param, "diffusion.");
    description.diffusion = settings.read(Params(settings.table(), process, file.string()));
    description.steps = whole(json, integer("trained_steps", 0, "").at_least(0), "");
    if (json.contains("trained_on"))
      description.images = std::get<std::string>(stated(json, text("trained_on", "", ""), ""));
    return description;
  } catch (const Json::exception& error) {
    throw DataError(file.string(), "not a model description: " + error_text(error));
  }
}

TrainedModel load_model(const std::filesystem::path& folder, const std::string& weights,
                        const plugin::Registry& registry) {
  const auto description = read_model_description(folder, registry);
  auto network =
      registry.student(description.student, {description.shape, description.diffusion}, /*seed=*/0);
  to_channels_last(*network);
  TensorMap target;
  for (const auto& entry : network->named_parameters()) {
    entry.value().set_requires_grad(false);
    target[entry.key()] = entry.value();
  }
  record::check_contents(folder, {kModelFile, weights + ".safetensors"});
  const auto file = folder / (weights + ".safetensors");
  const auto tensors = io::load_tensors(file);
  io::check_finite({.path = "", .tensors = {tensors.begin(), tensors.end()}}, file);
  model::copy_strictly(tensors, target, file.string());
  network->eval();
  return {network, description.diffusion, description.shape};
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

}  // namespace dkdm::model
