// A teacher from a folder of the Python package diffusers: a UNet2DModel (config.json and
// diffusion_pytorch_model.safetensors, or .bin), alone or as the unet/ of a pipeline, and the
// scheduler_config.json that belongs to it, whose noise schedule becomes the teacher's.
#include "diffusers_unet.hpp"
#include "dkdm/checkpoint.hpp"
#include "dkdm/memory.hpp"
#include "dkdm/plugin.hpp"
#include "weights_file.hpp"

namespace {

namespace fs = std::filesystem;
using dkdm::ConfigError;
using dkdm::DataError;
using dkdm::Params;
using namespace dkdm::diffusers;

constexpr const char* kName = "diffusers";

struct Files {
  fs::path config, weights, scheduler;
};

// Attention layers were named otherwise before diffusers 0.17; the package renames as it loads.
std::string current_name(const std::string& name) {
  if (name.find("attentions.") == std::string::npos) return name;
  static const std::vector<std::pair<std::string, std::string>> renamed{
      {".query.", ".to_q."}, {".key.", ".to_k."}, {".value.", ".to_v."}, {".proj_attn.", ".to_out.0."}};
  for (const auto& [old_part, part] : renamed) {
    if (const auto at = name.find(old_part); at != std::string::npos)
      return std::string(name).replace(at, old_part.size(), part);
  }
  return name;
}

class Diffusers final : public dkdm::Teacher {
 public:
  Diffusers(const Params& params, dkdm::Host& host) : params_(params), host_(host) {}

  static dkdm::ParamTable params() {
    using namespace dkdm;
    return {text("path", "", "folder of a UNet2DModel with its scheduler_config.json, or of a "
                             "pipeline with unet/ and scheduler/"),
            integer("image_size", 0, "pixels (0 = the model's sample_size)").between(0, 4096)};
  }

  dkdm::TrainedModel load() override {
    const Files files = find_files();
    UnetConfig config = read_unet(files.config);
    const SchedulerConfig scheduler = read_scheduler(files.scheduler);
    choose_size(config, files);
    check_output(config, scheduler, files);

    const auto checkpoint = dkdm::io::read_checkpoint(files.weights);
    const auto& state = dkdm::io::select_state(checkpoint, "", files.weights);
    dkdm::io::check_finite(state, files.weights);
    dkdm::io::NamedTensors tensors;
    for (const auto& [name, tensor] : state.tensors)
      tensors.emplace_back(current_name(name), tensor);
    const auto make = [&] { return std::make_shared<Unet2d>(config); };
    dkdm::measured_network(make, 1, files.config.string());
    const auto network = make();
    dkdm::io::load_strictly(tensors, *network, files.weights.string());
    for (auto& parameter : network->parameters()) {
      if (parameter.dim() == 4)
        parameter.set_data(parameter.detach().contiguous(at::MemoryFormat::ChannelsLast));
    }

    auto diffusion = scheduler.diffusion;
    say(files, config, scheduler, *network);
    return dkdm::teachers::frozen(
        dkdm::teachers::as_eps(network, scheduler.prediction, diffusion), diffusion, config.spec);
  }

  std::string fingerprint() const override {
    const Files files = find_files();
    return dkdm::teachers::fingerprint(params_, {files.config, files.scheduler, files.weights});
  }

 private:
  Files find_files() const {
    const fs::path path = dkdm::teachers::given_path(params_, kName, "the folder of a UNet2DModel");
    const bool pipeline = !fs::exists(path / "config.json") && fs::exists(path / "unet");
    const fs::path folder = pipeline ? path / "unet" : path;
    const auto first = [&](const std::vector<fs::path>& candidates, const std::string& what) {
      std::string places;
      for (const auto& candidate : candidates) {
        if (fs::exists(candidate)) return candidate;
        places += (places.empty() ? "" : ", ") + candidate.lexically_relative(path).string();
      }
      throw DataError(path.string(), "has no " + what + "; looked for " + places);
    };
    return {first({folder / "config.json"}, "model description"),
            first({folder / "diffusion_pytorch_model.safetensors",
                   folder / "diffusion_pytorch_model.bin"},
                  "weights"),
            first({path / "scheduler_config.json", path / "scheduler" / "scheduler_config.json",
                   folder / ".." / "scheduler" / "scheduler_config.json"},
                  "scheduler, whose noise schedule the network was trained with")};
  }

  void choose_size(UnetConfig& config, const Files& files) const {
    if (const auto wanted = params_.integer("image_size"); wanted > 0) config.spec.size = wanted;
    if (config.spec.size == 0) {
      throw ConfigError("teacher diffusers: " + files.config.string() +
                        " states no sample_size; set image_size");
    }
    const std::size_t halvings = config.widths.size() - 1;
    if (halvings > 30 || config.spec.size % (std::int64_t{1} << halvings) != 0) {
      throw ConfigError("teacher diffusers: images of " + std::to_string(config.spec.size) +
                        " pixels cannot be halved " + std::to_string(halvings) +
                        " times; set image_size");
    }
  }

  static void check_output(const UnetConfig& config, const SchedulerConfig& scheduler,
                           const Files& files) {
    const auto expected = config.spec.channels * (scheduler.learned_variance ? 2 : 1);
    if (config.out_channels == expected) return;
    throw DataError(files.config.string(),
                    "out_channels is " + std::to_string(config.out_channels) + ", expected " +
                        std::to_string(expected) + " for " + std::to_string(config.spec.channels) +
                        " channels in and " + files.scheduler.filename().string() +
                        "'s variance_type " +
                        (scheduler.variance_type.empty() ? "(none)" : scheduler.variance_type));
  }

  void say(const Files& files, const UnetConfig& config, const SchedulerConfig& scheduler,
           const Unet2d& network) {
    std::int64_t weights = 0;
    for (const auto& parameter : network.parameters()) weights += parameter.numel();
    const auto& diffusion = scheduler.diffusion;
    std::string line = files.weights.parent_path().filename().string() + ": UNet2DModel, " +
                       std::to_string(config.spec.channels) + "x" +
                       std::to_string(config.spec.size) + "x" + std::to_string(config.spec.size) +
                       " images, " + std::to_string(weights) + " weights; process of " +
                       scheduler.name + ": " + diffusion.schedule + " schedule, " +
                       std::to_string(diffusion.steps) + " steps";
    if (diffusion.beta_start != 0) {
      line += ", beta " + dkdm::to_text(diffusion.beta_start) + " to " +
              dkdm::to_text(diffusion.beta_end);
    }
    line += ", predicts " + scheduler.prediction_type;
    if (scheduler.prediction != dkdm::teachers::Prediction::eps) line += " (converted to epsilon)";
    line += scheduler.learned_variance ? ", learned variance" : ", variance " + diffusion.variance;
    if (scheduler.variance_type.empty()) line += " (assumed: its scheduler states none)";
    host_.log(kName, line);
  }

  Params params_;
  dkdm::Host& host_;
};

}  // namespace

DKDM_TEACHER("diffusers", "2", "a UNet2DModel folder of the Python package diffusers", Diffusers)
