// A teacher from a folder of the Python package diffusers: a UNet2DModel (config.json and
// diffusion_pytorch_model.safetensors or .bin, of a variant, or in shards), alone or as the unet/
// of a pipeline, and the scheduler_config.json that belongs to it, whose noise schedule becomes the
// teacher's.
#include "diffusers_unet.hpp"
#include "diffusers_weights.hpp"
#include "dkdm/announced.hpp"
#include "dkdm/checkpoint.hpp"
#include "dkdm/memory.hpp"
#include "dkdm/plugin.hpp"
#include "dkdm/weights_files.hpp"
#include "dkdm/weights_kind.hpp"
#include "weights_file.hpp"

namespace {

namespace fs = std::filesystem;
using dkdm::ConfigError;
using dkdm::DataError;
using dkdm::Params;
using namespace dkdm::diffusers;

constexpr const char* kName = "diffusers";
constexpr const char* kWhat = "the folder of a UNet2DModel";

struct Files {
  fs::path config, scheduler;
  WeightFiles weights;
};

// Attention layers were named otherwise before diffusers 0.17; the package renames as it loads.
std::string current_name(const std::string& name) {
  if (name.find("attentions.") == std::string::npos) return name;
  static const std::vector<std::pair<std::string, std::string>> renamed{
      {".query.", ".to_q."},
      {".key.", ".to_k."},
      {".value.", ".to_v."},
      {".proj_attn.", ".to_out.0."}};
  for (const auto& [old_part, part] : renamed) {
    if (const auto at = name.find(old_part); at != std::string::npos)
      return std::string(name).replace(at, old_part.size(), part);
  }
  return name;
}

class Diffusers final : public dkdm::Teacher, public dkdm::StatesWeights, public dkdm::StatesFiles {
 public:
  Diffusers(const Params& params, dkdm::Host& host) : params_(params), host_(host) {}

  static void announce(const Params& params, dkdm::Announced& announced) {
    dkdm::teachers::announce_absence(params, kName, kWhat, announced);
  }

  static dkdm::ParamTable params() {
    using namespace dkdm;
    return dkdm::teachers::with_origin(
        {text("path", "",
              "folder of a UNet2DModel with its scheduler_config.json, or of a "
              "pipeline with unet/ and scheduler/"),
         text("variant", "",
              "of the weights' files, as fp16 in *.fp16.safetensors (empty = the "
              "plain ones, else the only variant)"),
         text("weights", "",
              "raw takes unet/ where there is a unet_ema/, and the variant non_ema; "
              "else it says what the weights are (empty = the EMA weights where "
              "there are some; recorded as unlabelled where nothing says)")
             .one_of({"", "ema", "raw"}),
         integer("image_size", 0, "pixels (0 = the model's sample_size)").between(0, 4096)});
  }

  dkdm::TrainedModel load() override {
    const Files files = find_files();
    UnetConfig config = read_unet(files.config);
    const SchedulerConfig scheduler = read_scheduler(files.scheduler);
    choose_size(config, files);
    check_output(config, scheduler, files);

    const auto preferred =
        params_.text("weights") == "raw" ? dkdm::io::WeightsKind::raw : dkdm::io::WeightsKind::ema;
    const auto read = read_weights(files.weights, preferred);
    dkdm::io::NamedTensors tensors;
    for (const auto& [name, tensor] : read.tensors)
      tensors.emplace_back(current_name(name), tensor);
    const auto make = [&] { return std::make_shared<Unet2d>(config); };
    dkdm::measured_network(make, 1, files.config.string());
    const auto network = make();
    dkdm::io::load_strictly(tensors, *network, files.weights.all().back().string());
    for (auto& parameter : network->parameters()) {
      if (parameter.dim() == 4)
        parameter.set_data(parameter.detach().contiguous(at::MemoryFormat::ChannelsLast));
    }

    auto diffusion = scheduler.diffusion;
    say(files, read, config, scheduler, *network);
    return dkdm::teachers::frozen(dkdm::teachers::as_eps(network, scheduler.prediction, diffusion),
                                  diffusion, config.shape);
  }

  std::string fingerprint() const override {
    const Files files = find_files();
    std::vector<fs::path> all{files.config, files.scheduler};
    for (const auto& file : files.weights.all()) all.push_back(file);
    return dkdm::teachers::fingerprint(params_, all);
  }

  std::vector<fs::path> weight_files() const override { return find_files().weights.files; }

  // By the names that the package and its training scripts give; a single file may hold both as
  // well.
  std::string weights() const override {
    const Files files = find_files();
    const std::string folder = files.config.parent_path().filename().string();
    if (folder == "unet_ema") return "ema";
    if (files.weights.variant == "non_ema") return "raw";
    if (files.weights.others && fs::exists(non_ema(files))) return "ema";
    if (fs::exists(files.config.parent_path().parent_path() / "unet_ema" / "config.json") &&
        folder == "unet")
      return "raw";
    return params_.text("weights");
  }

 private:
  static fs::path non_ema(const Files& files) {
    return files.config.parent_path() / "diffusion_pytorch_model.non_ema.safetensors";
  }

  Files find_files() const {
    const fs::path path = dkdm::teachers::given_path(params_, kName, kWhat);
    const bool raw = params_.text("weights") == "raw";
    const bool pipeline = !fs::exists(path / "config.json");
    fs::path folder = path;
    if (pipeline && fs::exists(path / "unet")) folder = path / "unet";
    if (pipeline && !raw && fs::exists(path / "unet_ema" / "config.json"))
      folder = path / "unet_ema";
    const auto first = [&](const std::vector<fs::path>& candidates, const std::string& what) {
      std::string places;
      for (const auto& candidate : candidates) {
        if (fs::exists(candidate)) return candidate;
        places += (places.empty() ? "" : ", ") + candidate.lexically_relative(path).string();
      }
      throw DataError(path.string(), "has no " + what + "; looked for " + places);
    };
    std::string variant = params_.text("variant");
    if (variant.empty() && raw &&
        fs::exists(folder / "diffusion_pytorch_model.non_ema.safetensors"))
      variant = "non_ema";
    Files files;
    files.config = first({folder / "config.json"}, "model description");
    files.weights = find_weights(folder, variant);
    // A training's checkpoint-N/ has none of its own.
    files.scheduler =
        first({path / "scheduler_config.json", path / "scheduler" / "scheduler_config.json",
               folder / ".." / "scheduler" / "scheduler_config.json",
               path / ".." / "scheduler" / "scheduler_config.json",
               path / ".." / ".." / "scheduler" / "scheduler_config.json"},
              "scheduler, whose noise schedule the network was trained with");
    return files;
  }

  void choose_size(UnetConfig& config, const Files& files) const {
    if (const auto wanted = params_.integer("image_size"); wanted > 0)
      config.shape.height = config.shape.width = wanted;
    if (config.shape.height == 0) {
      throw ConfigError("teacher diffusers: " + files.config.string() +
                        " states no sample_size; set image_size");
    }
    const std::size_t halvings = config.widths.size() - 1;
    if (halvings > 30 || !config.shape.is_divisible_by(std::int64_t{1} << halvings)) {
      throw ConfigError("teacher diffusers: images of " + text_of(config.shape) +
                        " pixels cannot be halved " + std::to_string(halvings) +
                        " times; set image_size");
    }
  }

  static void check_output(const UnetConfig& config, const SchedulerConfig& scheduler,
                           const Files& files) {
    const auto expected = config.shape.channels * (scheduler.learned_variance ? 2 : 1);
    if (config.out_channels == expected) return;
    throw DataError(files.config.string(),
                    "out_channels is " + std::to_string(config.out_channels) + ", expected " +
                        std::to_string(expected) + " for " + std::to_string(config.shape.channels) +
                        " channels in and " + files.scheduler.filename().string() +
                        "'s variance_type " +
                        (scheduler.variance_type.empty() ? "(none)" : scheduler.variance_type));
  }

  void say(const Files& files, const dkdm::io::ChosenNetwork& read, const UnetConfig& config,
           const SchedulerConfig& scheduler, const Unet2d& network) {
    std::int64_t weights = 0;
    for (const auto& parameter : network.parameters()) weights += parameter.numel();
    const auto& diffusion = scheduler.diffusion;
    std::string line = files.config.parent_path().filename().string() + ": UNet2DModel, " +
                       text_of(config.shape) + " images, " + std::to_string(weights) +
                       " weights; process of " + scheduler.name + ": " + diffusion.schedule +
                       " schedule, " + std::to_string(diffusion.steps) + " steps";
    if (diffusion.beta_start != 0) {
      line += ", beta " + dkdm::to_text(diffusion.beta_start) + " to " +
              dkdm::to_text(diffusion.beta_end);
    }
    line += ", predicts " + scheduler.prediction_type;
    if (scheduler.prediction != dkdm::teachers::Prediction::eps) line += " (converted to epsilon)";
    line += scheduler.learned_variance ? ", learned variance" : ", variance " + diffusion.variance;
    if (scheduler.variance_type.empty()) line += " (assumed: its scheduler states none)";
    if (!files.weights.variant.empty()) line += "; variant " + files.weights.variant;
    if (!files.weights.index.empty())
      line += "; " + std::to_string(files.weights.files.size()) + " shards of " +
              files.weights.index.filename().string();
    if (!read.said.empty()) line += "; " + read.said;
    const std::string which = this->weights();
    line += which.empty()
                ? "; nothing says whether these are EMA weights (recorded as unlabelled): "
                  "weights = \"ema\" or \"raw\" says it"
                : "; recorded as " + which + " weights";
    host_.log(kName, line);
    if (!config.ignored.empty())
      host_.log(kName, "config.json states what UNet2DModel does not take and ignores: " +
                           weight_files::joined(config.ignored));
    std::string differences;
    for (const auto& one : scheduler.sampling)
      differences += (differences.empty() ? "" : "; ") + one;
    if (!differences.empty())
      host_.log(kName, "made to be sampled by other rules than [sample]'s: " + differences);
  }

  Params params_;
  dkdm::Host& host_;
};

}  // namespace

DKDM_TEACHER("diffusers", "2", "a UNet2DModel folder of the Python package diffusers", Diffusers)
