// A teacher from a checkpoint of guided-diffusion, improved-diffusion or the paper's authors: their
// UNet, or DiT. The network's options are read off its tensors (dkdm/architecture.hpp); what no
// tensor shows is a parameter, or assumed by a rule and said in the log.
#include <algorithm>
#include <numeric>

#include "as_eps.hpp"
#include "dkdm/announced.hpp"
#include "dkdm/architecture.hpp"
#include "dkdm/checkpoint.hpp"
#include "dkdm/plugin.hpp"
#include "dkdm/weights_files.hpp"
#include "dkdm/weights_kind.hpp"
#include "weights_file.hpp"

namespace {

namespace fs = std::filesystem;
namespace arch = dkdm::architecture;
using dkdm::ConfigError;
using dkdm::DataError;
using dkdm::Params;

constexpr const char* kName = "guided-diffusion";
constexpr const char* kWhat =
    "a checkpoint file of guided-diffusion (the paper's teachers, or their like, are among those "
    "that github.com/forever208/DDPM-IP links)";

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const auto& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

// The student that takes the weights, and what to call it with.
struct Plan {
  std::string student;
  std::map<std::string, dkdm::Value> values;
  dkdm::SampleShape shape;
  dkdm::DiffusionConfig diffusion;
  double time_scale = 1;
  std::int64_t classes = 0;
  std::string label_table, label_bias;  // tensors: rows of labels, and where such a row is added
  std::string assumed_from;
  std::vector<std::string> assumed, set;  // what no tensor shows
};

class GuidedDiffusion final : public dkdm::Teacher,
                              public dkdm::StatesWeights,
                              public dkdm::StatesFiles {
 public:
  GuidedDiffusion(const Params& params, dkdm::Host& host) : params_(params), host_(&host) {}

  static void announce(const Params& params, dkdm::Announced& announced) {
    if (!dkdm::teachers::announce_absence(params, kName, kWhat, announced)) return;
    const std::string& name = params.text("network");
    if (name.empty()) return;
    announced.absent.back().remedy += "; it is to hold a " + name;
    Plan plan = GuidedDiffusion(params).plan_of(arch::paper_network(name), params.text("path"));
    announced.network = {plan.student, plan.values, {plan.shape, plan.diffusion}};
  }

  static dkdm::ParamTable params() {
    using namespace dkdm;
    std::vector<std::string> networks = arch::paper_networks();
    networks.insert(networks.begin(), "");
    return dkdm::teachers::with_origin({
        text("path", "",
             "the checkpoint, .pt or .safetensors; ema_0.9999_*.pt are files like others"),
        text("state", "",
             "dictionary of the file that holds the weights, as dkdm checkpoint inspect "
             "shows it (empty = the EMA weights where there are some, else the only "
             "one, else state_dict, model_state_dict or model)"),
        text("weights", "",
             "raw takes the raw weights of a file that has EMA weights too; of a file "
             "with one network it says what they are (empty = EMA weights where "
             "there are some; recorded as unlabelled where the file does not "
             "say)")
            .one_of({"", "ema", "raw"}),
        integer("label", -1,
                "class to distil of a class-conditional network (-1 = refuse such a "
                "network)")
            .between(-1, 1e6),
        integer("image_size", 0, "pixels (0 = by the network's level widths; DiT shows it)")
            .between(0, 4096),
        integer("num_head_channels", 0,
                "channels of an attention head (0 = as published for this "
                "shape, else by num_heads)")
            .between(0, 65536),
        integer("num_heads", 0,
                "attention heads at every width (0 = as published for this shape, "
                "else 4; DiT: by its width)")
            .between(0, 1024),
        integer("num_heads_upsample", 0, "the same on the way up (0 = num_heads)").between(0, 1024),
        text("attention_order", "",
             "order of q, k, v and heads (empty = as published for this "
             "shape, else legacy)")
            .one_of({"", "new", "legacy"}),
        text("schedule", "", "noise schedule (empty = as published for this shape, else linear)")
            .one_of({"", "cosine", "linear"}),
        integer("steps", 0, "diffusion steps (0 = as published for this shape, else 1000)")
            .between(0, 100000),
        text("rescale_timesteps", "",
             "the network counts 1000 steps whatever steps is (empty = as "
             "published for this shape, else off)")
            .one_of({"", "on", "off"}),
        flag("predict_xstart", false, "the network predicts the image; converted to eps"),
        text("variance", "fixed_large",
             "of a network that predicts none: beta (fixed_large) or the "
             "posterior's (fixed_small)")
            .one_of({"fixed_large", "fixed_small"}),
        text("network", "",
             "network of the paper that the file is to hold: plans are made with it while there is "
             "no file, and a file with another one is refused (empty = any)")
            .one_of(networks)
            .no_effect_on_result(),
    });
  }

  dkdm::TrainedModel load() override {
    const fs::path file = path();
    dkdm::io::ChosenNetwork chosen = choose(file);
    dkdm::io::check_finite({chosen.path, chosen.tensors}, file);

    arch::Shapes shapes;
    for (const auto& [name, tensor] : chosen.tensors)
      shapes.emplace_back(name, tensor.sizes().vec());
    const auto recognised = arch::recognise(shapes);
    check_network(recognised, file);
    Plan plan;
    if (const auto* unet = std::get_if<arch::Unet>(&recognised.network)) {
      plan = plan_of(*unet, file);
    } else if (const auto* dit = std::get_if<arch::Dit>(&recognised.network)) {
      plan = plan_of(*dit, file);
    } else {
      throw DataError(file.string(), "holds no network that the teacher guided-diffusion knows: " +
                                         recognised.text);
    }
    plan_process(plan);

    auto& tensors = chosen.tensors;
    choose_label(plan, tensors, file);
    auto network = host_->student(plan.student, plan.values, {plan.shape, plan.diffusion});
    dkdm::io::load_strictly(tensors, *network, file.string());
    say(file, chosen, recognised.text, plan, *network);
    using dkdm::teachers::Prediction;
    network = dkdm::teachers::as_eps(
        network, params_.flag("predict_xstart") ? Prediction::sample : Prediction::eps,
        plan.diffusion, plan.time_scale);
    return dkdm::teachers::frozen(network, plan.diffusion, plan.shape);
  }

  std::string fingerprint() const override {
    return dkdm::teachers::fingerprint(params_, {path()});
  }

  std::vector<fs::path> weight_files() const override { return {path()}; }

  std::string weights() const override {
    const fs::path file = path();
    return kind(choose(file), file);
  }

 private:
  // Plans, and loads nothing.
  explicit GuidedDiffusion(const Params& params) : params_(params) {}

  // Classes aside: `label` takes them away.
  void check_network(const arch::Recognised& recognised, const fs::path& file) const {
    const std::string& name = params_.text("network");
    if (name.empty()) return;
    const auto* unet = std::get_if<arch::Unet>(&recognised.network);
    arch::Unet expected = arch::paper_network(name);
    if (unet) expected.classes = unet->classes;
    if (unet && *unet == expected) return;
    throw ConfigError("teacher guided-diffusion: network is " + name + ", but " + file.string() +
                      " holds another one (" + recognised.text +
                      "); give the file that belongs here, or leave network out");
  }

  dkdm::io::ChosenNetwork choose(const fs::path& file) const {
    const auto checkpoint = dkdm::io::read_checkpoint(file);
    using dkdm::io::WeightsKind;
    const bool raw = params_.text("weights") == "raw";
    auto chosen = dkdm::io::choose_network(checkpoint, params_.text("state"), file,
                                           raw ? WeightsKind::raw : WeightsKind::ema);
    const bool is_other = chosen.kind == (raw ? WeightsKind::ema : WeightsKind::raw);
    if (is_other && !params_.text("weights").empty()) {
      throw ConfigError("teacher guided-diffusion: weights is " + params_.text("weights") +
                        ", but " + file.string() + " gives " + chosen.said);
    }
    return chosen;
  }

  // "ema", "raw", or "" where neither the file nor its name nor the parameter says.
  std::string kind(const dkdm::io::ChosenNetwork& chosen, const fs::path& file) const {
    if (chosen.kind == dkdm::io::WeightsKind::ema) return "ema";
    if (chosen.kind == dkdm::io::WeightsKind::raw) return "raw";
    if (!params_.text("weights").empty()) return params_.text("weights");
    // guided-diffusion's training writes model010000.pt and ema_0.9999_010000.pt.
    const std::string stem = file.stem().string();
    constexpr std::string_view kModel = "model", kEma = "ema_";
    const auto digits = [](std::string_view text) {
      return text.size() >= 6 && text.find_first_not_of("0123456789") == std::string_view::npos;
    };
    if (stem.starts_with(kEma)) return "ema";
    return stem.starts_with(kModel) && digits(stem.substr(kModel.size())) ? "raw" : "";
  }

  fs::path path() const { return dkdm::teachers::given_path(params_, kName, kWhat); }

  // The parameter if it is set, else what the rule says; noted as `text` of it.
  template <class T, class Text>
  static T chosen(Plan& plan, bool given, T parameter, T rule, Text text) {
    const T value = given ? parameter : rule;
    (given ? plan.set : plan.assumed).push_back(text(value));
    return value;
  }

  static void check_channels(std::int64_t in, std::int64_t out, const fs::path& file) {
    if (out == in || out == 2 * in) return;
    throw DataError(file.string(), "its network takes " + std::to_string(in) +
                                       " channels and returns " + std::to_string(out) +
                                       ", expected as many or twice as many: one that is "
                                       "conditioned on an image (super-resolution) cannot be a "
                                       "teacher here");
  }

  Plan plan_of(const arch::Unet& unet, const fs::path& file) {
    check_channels(unet.in_channels, unet.out_channels, file);
    const arch::UninferableOptions hidden = arch::uninferable_options(unet);
    Plan plan;
    plan.student = "adm-unet";
    plan.classes = unet.classes;
    plan.label_table = "label_emb.weight";
    plan.label_bias = "time_embed.2.bias";
    plan.assumed_from = hidden.network.empty() ? "guided-diffusion's defaults" : hidden.network;

    const auto wanted = params_.integer("image_size");
    if (wanted == 0 && hidden.image_size == 0) {
      throw ConfigError("teacher guided-diffusion: no tensor of " + file.string() +
                        " shows the image size, and its level widths are not those of a published "
                        "network; set image_size");
    }
    const auto size = chosen(plan, wanted > 0, wanted, hidden.image_size,
                             [](auto n) { return std::to_string(n) + " pixels"; });
    plan.shape = {unet.in_channels, size, size};
    auto& values = plan.values;
    plan_heads(plan, hidden);
    const std::string& order = params_.text("attention_order");
    values["use_new_attention_order"] = chosen(
        plan, !order.empty(), order == "new", hidden.new_attention_order,
        [](bool is_new) { return std::string(is_new ? "new" : "legacy") + " attention order"; });

    // Multiples of the sinusoid's width, or (OpenAI's 512-pixel network halves it) of what divides
    // all.
    std::int64_t base = unet.time_channels;
    for (const auto width : unet.widths) base = std::gcd(base, width);
    std::vector<std::int64_t> multipliers, resolutions;
    for (std::size_t level = 0; level < unet.widths.size(); ++level) {
      multipliers.push_back(unet.widths[level] / base);
      if (unet.attention[level]) resolutions.push_back(size >> level);
    }
    values["model_channels"] = base;
    values["time_channels"] = unet.time_channels;
    values["channel_mult"] = multipliers;
    values["attention_resolutions"] = resolutions;
    values["num_res_blocks"] = unet.num_res_blocks;
    values["learn_sigma"] = unet.out_channels == 2 * unet.in_channels;
    values["use_scale_shift_norm"] = unet.scale_shift;
    values["resblock_updown"] = unet.resampling == arch::Resampling::residual_blocks;
    values["conv_resample"] = unet.resampling != arch::Resampling::pooling;
    values["dropout"] = 0.0;
    plan_hidden_process(plan, hidden);
    return plan;
  }

  // num_heads and num_head_channels exclude each other.
  void plan_heads(Plan& plan, const arch::UninferableOptions& hidden) {
    const auto channels = params_.integer("num_head_channels"),
               heads = params_.integer("num_heads");
    const auto upsample = params_.integer("num_heads_upsample");
    if (channels > 0 && heads > 0) {
      throw ConfigError("teacher guided-diffusion: num_head_channels is " +
                        std::to_string(channels) + " and num_heads is " + std::to_string(heads) +
                        "; leave one of them out");
    }
    const bool given = channels > 0 || heads > 0;
    const auto used_channels = given ? channels : hidden.num_head_channels;
    const auto used_heads = given ? heads : hidden.num_heads;
    (given ? plan.set : plan.assumed)
        .push_back(used_channels > 0 ? std::to_string(used_channels) + " channels a head"
                                     : std::to_string(used_heads) + " heads");
    if (used_channels > 0) plan.values["num_head_channels"] = used_channels;
    if (used_heads > 0) plan.values["num_heads"] = used_heads;
    if (upsample > 0) {
      plan.values["num_heads_upsample"] = upsample;
      plan.set.push_back(std::to_string(upsample) + " heads on the way up");
    }
  }

  Plan plan_of(const arch::Dit& dit, const fs::path& file) {
    check_channels(dit.in_channels, dit.out_channels, file);
    Plan plan;
    plan.student = "dit";
    plan.classes = dit.classes;
    plan.label_table = "y_embedder.embedding_table.weight";
    plan.label_bias = "t_embedder.mlp.2.bias";
    plan.assumed_from = "DiT's sizes, guided-diffusion's defaults";
    plan.shape = {dit.in_channels, dit.image_size, dit.image_size};
    if (const auto size = params_.integer("image_size"); size > 0 && size != dit.image_size) {
      throw ConfigError("teacher guided-diffusion: image_size is " + std::to_string(size) +
                        ", but " + file.string() + " holds positions for " +
                        std::to_string(dit.image_size) + " pixels; leave it out");
    }
    arch::UninferableOptions hidden;
    hidden.schedule = "linear";
    hidden.steps = 1000;
    const auto channels = params_.integer("num_head_channels");
    hidden.num_heads = channels > 0 ? std::max<std::int64_t>(1, dit.hidden_size / channels)
                                    : arch::usual_heads(dit);
    const auto heads = params_.integer("num_heads");
    auto& values = plan.values;
    values["num_heads"] = chosen(plan, heads > 0, heads, hidden.num_heads,
                                 [](auto n) { return std::to_string(n) + " heads"; });
    values["depth"] = dit.depth;
    values["hidden_size"] = dit.hidden_size;
    values["patch_size"] = dit.patch_size;
    // Half a channel more, since the student rounds down.
    values["mlp_ratio"] =
        (static_cast<double>(dit.mlp_width) + 0.5) / static_cast<double>(dit.hidden_size);
    values["learn_sigma"] = dit.out_channels == 2 * dit.in_channels;
    plan_hidden_process(plan, hidden);
    return plan;
  }

  // Schedule, steps, how the network counts them.
  void plan_hidden_process(Plan& plan, const arch::UninferableOptions& hidden) {
    const std::string& schedule = params_.text("schedule");
    plan.diffusion.schedule = chosen(plan, !schedule.empty(), schedule, hidden.schedule,
                                     [](const auto& name) { return name + " schedule"; });
    if (schedule.empty()) {
      plan.diffusion.beta_start = hidden.beta_start;
      plan.diffusion.beta_end = hidden.beta_end;
    }
    const auto steps = params_.integer("steps");
    plan.diffusion.steps = chosen(plan, steps > 0, steps, hidden.steps,
                                  [](auto n) { return std::to_string(n) + " steps"; });
    const std::string& rescale = params_.text("rescale_timesteps");
    const bool rescaled = chosen(
        plan, !rescale.empty(), rescale == "on", hidden.rescale_timesteps,
        [](bool on) { return std::string(on ? "time rescaled to 1000" : "time not rescaled"); });
    if (rescaled) plan.time_scale = 1000.0 / static_cast<double>(plan.diffusion.steps);
  }

  void plan_process(Plan& plan) {
    if (std::get<bool>(plan.values.at("learn_sigma"))) return;
    plan.diffusion.variance = params_.text("variance");
    plan.set.push_back("variance " + plan.diffusion.variance);
  }

  // A fixed label adds a fixed row to the time embedding, whose last layer ends with a bias: the
  // row goes into it, and the network is unconditional.
  void choose_label(Plan& plan, dkdm::io::NamedTensors& tensors, const fs::path& file) {
    const auto label = params_.integer("label");
    if (plan.classes == 0) {
      if (label < 0) return;
      throw ConfigError("teacher guided-diffusion: label is " + std::to_string(label) + ", but " +
                        file.string() + " is not class-conditional; leave it out");
    }
    if (label < 0 || label >= plan.classes) {
      throw ConfigError("teacher guided-diffusion: " + file.string() + " is conditional on " +
                        std::to_string(plan.classes) +
                        " classes, and distillation here is unconditional: set label to 0 … " +
                        std::to_string(plan.classes - 1) + " to distil that class" +
                        (label < 0 ? "" : ", got " + std::to_string(label)));
    }
    const auto find = [&](const std::string& name) {
      return std::find_if(tensors.begin(), tensors.end(),
                          [&](const auto& entry) { return entry.first == name; });
    };
    const auto table = find(plan.label_table), bias = find(plan.label_bias);
    if (bias == tensors.end() || bias->second.numel() != table->second.size(1)) {
      throw DataError(file.string(), plan.label_table + " does not fit " + plan.label_bias);
    }
    bias->second = bias->second.to(at::kFloat) + table->second[label].to(at::kFloat);
    tensors.erase(table);
    plan.set.push_back("label " + std::to_string(label) + " of every image");
  }

  void say(const fs::path& file, const dkdm::io::ChosenNetwork& chosen, const std::string& network,
           const Plan& plan, const dkdm::Denoiser& student) {
    std::int64_t weights = 0;
    for (const auto& parameter : student.parameters()) weights += parameter.numel();
    std::string line = file.filename().string() +
                       (chosen.said.empty() ? "" : " (" + chosen.said + ")") + ": " + network +
                       "; " + std::to_string(weights) + " weights";
    if (!plan.assumed.empty())
      line += "; not stored in the checkpoint, assuming those of " + plan.assumed_from + ": " +
              joined(plan.assumed);
    if (!plan.set.empty()) line += "; by parameters: " + joined(plan.set);
    if (const std::string which = kind(chosen, file); which.empty()) {
      line +=
          "; the file does not say whether these are EMA weights (recorded as unlabelled): "
          "weights = \"ema\" or \"raw\" says it";
    } else if (chosen.kind == dkdm::io::WeightsKind::given) {
      line += "; recorded as " + which + " weights";
    }
    host_->log(kName, line);
  }

  Params params_;
  dkdm::Host* host_ = nullptr;
};

}  // namespace

DKDM_TEACHER("guided-diffusion", "2",
             "a checkpoint of guided-diffusion, improved-diffusion or the paper's authors",
             GuidedDiffusion)
