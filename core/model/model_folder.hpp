// A trained network on disk: model.json (what it is), raw.safetensors, ema.safetensors.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "dkdm/host.hpp"
#include "plugin/registry.hpp"

namespace dkdm::model {

inline constexpr const char* kModelFile = "model.json";

// Everything needed to build the network again.
struct ModelDescription {
  plugin::PluginChoice student;
  SampleShape shape;
  DiffusionConfig diffusion;
  std::int64_t steps = 0;  // training steps that made the weights
  std::string images{};    // the dataset that it learned to draw, "" = not known
};

DKDM_API void write_model_description(const std::filesystem::path& folder,
                                      const ModelDescription& description);
// Throws DataError naming the file and what is wrong with it.
DKDM_API ModelDescription read_model_description(const std::filesystem::path& folder,
                                                 const plugin::Registry& registry);
// The network in evaluation mode, channels-last, without gradients. `weights` "ema" or "raw".
// Throws DataError where the folder is an artifact's whose files are not what was published
// (check_contents).
DKDM_API TrainedModel load_model(const std::filesystem::path& folder, const std::string& weights,
                                 const plugin::Registry& registry);

// A student by its plugin's name, for weights that come from elsewhere (Host::student).
DKDM_API std::shared_ptr<Denoiser> untrained_student(const std::string& name,
                                                     const std::map<std::string, Value>& values,
                                                     const StudentContext& context,
                                                     const plugin::Registry& registry);

// Below the model folder `trained`: the weights as they were after `step` steps, a model folder
// too.
DKDM_API std::filesystem::path kept_folder(const std::filesystem::path& trained, std::int64_t step);

DKDM_API std::int64_t count_parameters(const torch::nn::Module& network);

// Convolution weights in channels-last memory, the layout that activations keep from end to end.
DKDM_API void to_channels_last(torch::nn::Module& network);

}  // namespace dkdm::model
