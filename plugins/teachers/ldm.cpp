// The UNet of a latent diffusion model (Rombach et al. 2022) from its Lightning checkpoint: the
// paper's teachers in latent space, and the students of its authors. Raw weights are
// `model.diffusion_model.NAME`; their moving average (LitEma) is `model_ema.diffusion_modelNAME`
// with the dots of NAME left out. Beside both the file has the first stage, the schedule and the
// state of the training; what is not needed is not read.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>

#include "dkdm/announced.hpp"
#include "dkdm/checkpoint.hpp"
#include "dkdm/diffusion.hpp"
#include "dkdm/plugin.hpp"
#include "dkdm/weights_files.hpp"
#include "dkdm/weights_kind.hpp"
#include "dkdm/weights_space.hpp"
#include "weights_file.hpp"

namespace {

namespace fs = std::filesystem;
using dkdm::ConfigError;
using dkdm::DataError;
using dkdm::Params;
using dkdm::io::NamedTensors;

constexpr const char* kName = "ldm";
constexpr const char* kWhat =
    "the checkpoint of a latent diffusion model (model.ckpt of the latent diffusion repository's "
    "celeba.zip or ffhq.zip)";
constexpr std::string_view kRaw = "model.diffusion_model.", kAverage = "model_ema.";
constexpr std::int64_t kTeacherChannels = 224;

// LDM's UNet at base width `channels` for latents of shorter side `side`.
std::map<std::string, dkdm::Value> unet(std::int64_t channels, std::int64_t side) {
  using Integers = std::vector<std::int64_t>;
  return {{"model_channels", channels},
          {"num_res_blocks", std::int64_t{2}},
          {"channel_mult", Integers{1, 2, 3, 4}},
          {"attention_resolutions", Integers{side / 2, side / 4, side / 8}},
          {"num_head_channels", std::int64_t{32}},
          {"dropout", 0.0},
          {"learn_sigma", false},
          {"use_new_attention_order", false},
          {"use_scale_shift_norm", false},
          {"resblock_updown", false},
          {"conv_resample", true}};
}

// The decimal that was rounded to this f32: 0.0015, not 0.00150000001303852.
double as_written(float value) {
  char text[64];
  const auto end = std::to_chars(text, text + sizeof text, value).ptr;
  double result = 0;
  std::from_chars(text, end, result);
  return result;
}

// The schedule's buffers of DDPM in the reference, from betas alone.
std::map<std::string, std::vector<double>> schedule_buffers(
    const dkdm::GaussianDiffusion::Tables& tables) {
  const auto of = [&](auto function) {
    std::vector<double> values;
    for (std::size_t t = 0; t < tables.beta.size(); ++t) values.push_back(function(t));
    return values;
  };
  const auto& bar = tables.alpha_bar;
  return {{"betas", tables.beta},
          {"alphas_cumprod", bar},
          {"alphas_cumprod_prev", tables.alpha_bar_prev},
          {"sqrt_alphas_cumprod", tables.sqrt_alpha_bar},
          {"sqrt_one_minus_alphas_cumprod", tables.sqrt_one_minus_alpha_bar},
          {"log_one_minus_alphas_cumprod", of([&](auto t) { return std::log(1 - bar[t]); })},
          {"sqrt_recip_alphas_cumprod", tables.sqrt_recip_alpha_bar},
          {"sqrt_recipm1_alphas_cumprod", tables.sqrt_recipm1_alpha_bar},
          {"posterior_variance", tables.posterior_variance},
          {"posterior_log_variance_clipped",
           of([&](auto t) { return std::log(std::max(tables.posterior_variance[t], 1e-20)); })},
          {"posterior_mean_coef1", tables.posterior_mean_coef_x0},
          {"posterior_mean_coef2", tables.posterior_mean_coef_xt}};
}

// The dictionary of a latent diffusion model in its file, by name.
class Checkpoint {
 public:
  explicit Checkpoint(const fs::path& file)
      : file_(file), checkpoint_(dkdm::io::read_checkpoint(file)) {
    const std::string mark = std::string(kRaw) + "time_embed.0.weight";
    const dkdm::io::StateDict* state = nullptr;
    for (const auto& one : checkpoint_.states) {
      const bool holds = std::any_of(one.tensors.begin(), one.tensors.end(),
                                     [&](const auto& entry) { return entry.first == mark; });
      if (holds && state) fail("holds two latent diffusion models; keep one of them");
      if (holds) state = &one;
    }
    if (!state)
      fail("holds no latent diffusion model: no dictionary has " + mark +
           "; dkdm checkpoint inspect shows what there is");
    for (const auto& [name, tensor] : state->tensors) {
      tensors_.emplace(name, tensor);
      names_.push_back(name);
    }
    for (const auto& [name, what] : state->left_out) left_out_.emplace(name, what);
  }

  // Of the UNet, under its own names in the file's order: the moving average or the raw weights.
  NamedTensors network(bool average) const {
    NamedTensors found;
    for (const auto& [name, what] : left_out_)
      if (name.starts_with(kRaw)) fail("tensor '" + name + "' is " + what + ", which is not read");
    for (const std::string& name : names_) {
      if (!name.starts_with(kRaw)) continue;
      found.emplace_back(name.substr(kRaw.size()), tensor(average ? twin(name) : name));
    }
    dkdm::io::compare_checksums(checkpoint_, found);
    dkdm::io::check_finite({"", found}, file_);
    return found;
  }

  // Throws unless the schedule is one of latent diffusion's, whole and as [diffusion] makes it.
  dkdm::DiffusionConfig diffusion() const {
    NamedTensors buffers;
    for (const auto& [name, values] : schedule_buffers({}))
      buffers.emplace_back(name, tensor(name));
    dkdm::io::compare_checksums(checkpoint_, buffers);
    const at::Tensor betas = tensor("betas").to(at::kFloat).flatten().contiguous();
    const auto steps = betas.numel();
    if (steps < 2) fail("betas has " + std::to_string(steps) + " steps, expected at least 2");
    const auto* beta = betas.const_data_ptr<float>();
    dkdm::DiffusionConfig config;
    config.schedule = "scaled_linear";
    config.steps = steps;
    config.beta_start = as_written(beta[0]);
    config.beta_end = as_written(beta[steps - 1]);
    config.variance = "fixed_small";
    const dkdm::GaussianDiffusion process(config);
    const auto expected = schedule_buffers(process.tables());
    for (const auto& [name, buffer] : buffers) {
      const at::Tensor values = buffer.to(at::kDouble).flatten().contiguous();
      if (values.numel() != steps)
        fail(name + " has " + std::to_string(values.numel()) + " steps, betas " +
             std::to_string(steps));
      for (std::int64_t t = 0; t < steps; ++t)
        check_entry(name, t, values.const_data_ptr<double>()[t],
                    expected.at(name)[static_cast<std::size_t>(t)]);
    }
    return config;
  }

  // Latents are those of the first stage, unscaled.
  void check_scale() const {
    const auto scale = tensors_.find("scale_factor");
    if (scale == tensors_.end()) return;
    const double value = scale->second.to(at::kDouble).flatten()[0].item<double>();
    if (value != 1)
      fail("scale_factor is " + dkdm::to_text(dkdm::Value(as_written(static_cast<float>(value)))) +
           ", expected 1: the paper's models do not scale their latents");
  }

  // Tensors that belong to nothing known; the first few by name, "" = none.
  std::string extras() const {
    const auto schedule = schedule_buffers({});
    std::string text;
    std::size_t count = 0;
    for (const std::string& name : names_) {
      const bool known = name.starts_with(kRaw) || name.starts_with(kAverage) ||
                         name.starts_with("first_stage_model.") ||
                         name.starts_with("teacher_model.") || schedule.contains(name) ||
                         name == "scale_factor";
      if (known) continue;
      if (++count <= 5) text += (count == 1 ? "" : ", ") + name;
    }
    return count > 5 ? text + " and " + std::to_string(count - 5) + " more" : text;
  }

  // "490000", "" = not in the file.
  std::string global_step() const {
    const auto found = checkpoint_.values.find("global_step");
    return found == checkpoint_.values.end() ? "" : found->second;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw DataError(file_.string(), what); }

  const at::Tensor& tensor(const std::string& name) const {
    const auto found = tensors_.find(name);
    if (found != tensors_.end()) return found->second;
    const auto unread = left_out_.find(name);
    if (unread != left_out_.end())
      fail("tensor '" + name + "' is " + unread->second + ", which is not read");
    fail("has no tensor '" + name + "'" +
         (name.starts_with(kAverage)
              ? ", the moving average of a weight; weights = \"raw\" does without"
              : ", which a latent diffusion model has"));
  }

  // The moving average of a raw weight.
  static std::string twin(const std::string& name) {
    std::string undotted = name.substr(std::string_view("model.").size());
    std::erase(undotted, '.');
    return std::string(kAverage) + undotted;
  }

  // They were made in f64 and rounded to f32.
  void check_entry(const std::string& name, std::int64_t t, double value, double expected) const {
    constexpr double kTolerance = 1e-6;
    if (std::abs(value - expected) <= kTolerance * std::abs(expected) + 1e-12) return;
    fail(name + "[" + std::to_string(t) + "] is " + std::to_string(value) + ", expected " +
         std::to_string(expected) + ": the schedule is not scaled_linear between its ends");
  }

  const fs::path file_;
  const dkdm::io::CheckpointFile checkpoint_;
  std::vector<std::string> names_;  // in the file's order
  std::map<std::string, at::Tensor> tensors_;
  std::map<std::string, std::string> left_out_;
};

class Ldm final : public dkdm::Teacher,
                  public dkdm::StatesWeights,
                  public dkdm::StatesFiles,
                  public dkdm::DrawsLatents {
 public:
  Ldm(const Params& params, dkdm::Host& host) : params_(params), host_(host) {}

  static dkdm::ParamTable params() {
    using namespace dkdm;
    return dkdm::teachers::with_origin(
        {text("path", "", "the model's Lightning checkpoint, .ckpt"),
         text("weights", "ema", "the moving average, or those of training themselves")
             .one_of({"ema", "raw"}),
         integer("channels", 3, "of a latent").between(1, 1024),
         integer("latent_size", 64, "sides of a latent, which no tensor shows").between(8, 1024),
         integer("model_channels", 0,
                 "base width that the file is to have: plans are made with it while there is no "
                 "file (0 = any; plans take the paper's 224)")
             .between(0, 4096)
             .no_effect_on_result()});
  }

  static void announce(const Params& params, dkdm::Announced& announced) {
    if (!dkdm::teachers::announce_absence(params, kName, kWhat, announced)) return;
    const auto given = params.integer("model_channels");
    const dkdm::SampleShape shape = shape_of(params);
    dkdm::DiffusionConfig diffusion;
    diffusion.schedule = "scaled_linear";
    diffusion.beta_start = 0.0015;
    diffusion.beta_end = 0.0195;
    diffusion.variance = "fixed_small";
    announced.network = {
        "adm-unet", unet(given > 0 ? given : kTeacherChannels, shape.height), {shape, diffusion}};
  }

  dkdm::TrainedModel load() override {
    const fs::path file = path();
    const Checkpoint checkpoint(file);
    checkpoint.check_scale();
    const dkdm::DiffusionConfig diffusion = checkpoint.diffusion();
    const NamedTensors tensors = checkpoint.network(weights() == "ema");
    const std::int64_t channels = base_width(tensors, file);
    const dkdm::SampleShape shape = shape_of(params_);
    auto network = host_.student("adm-unet", unet(channels, shape.height), {shape, diffusion});
    dkdm::io::load_strictly(tensors, *network, file.string());
    say(file, checkpoint, channels, tensors);
    return dkdm::teachers::frozen(network, diffusion, shape);
  }

  std::string fingerprint() const override {
    return dkdm::teachers::fingerprint(params_, {path()});
  }

  std::string weights() const override { return params_.text("weights"); }
  std::vector<fs::path> weight_files() const override { return {path()}; }

 private:
  static dkdm::SampleShape shape_of(const Params& params) {
    const auto side = params.integer("latent_size");
    return {params.integer("channels"), side, side};
  }

  fs::path path() const { return dkdm::teachers::given_path(params_, kName, kWhat); }

  // Of the time embedding [4 m, m].
  std::int64_t base_width(const NamedTensors& tensors, const fs::path& file) const {
    const auto found = std::find_if(tensors.begin(), tensors.end(), [](const auto& entry) {
      return entry.first == "time_embed.0.weight";
    });
    const at::Tensor& embedding = found->second;
    if (embedding.dim() != 2 || embedding.size(0) != 4 * embedding.size(1))
      throw DataError(file.string(), c10::str("time_embed.0.weight is ", embedding.sizes(),
                                              ", expected [4 m, m] of base width m"));
    const auto wanted = params_.integer("model_channels");
    if (wanted > 0 && wanted != embedding.size(1))
      throw ConfigError("teacher ldm: model_channels is " + std::to_string(wanted) + ", but " +
                        file.string() + " holds a UNet of base width " +
                        std::to_string(embedding.size(1)) +
                        "; give the file that belongs here, or leave model_channels out");
    return embedding.size(1);
  }

  void say(const fs::path& file, const Checkpoint& checkpoint, std::int64_t channels,
           const NamedTensors& tensors) {
    std::int64_t values = 0;
    for (const auto& [name, tensor] : tensors) values += tensor.numel();
    const std::string step = checkpoint.global_step(), extras = checkpoint.extras();
    host_.log(kName, file.filename().string() + ": " +
                         (weights() == "ema" ? "EMA weights" : "raw weights") +
                         (step.empty() ? "" : " of step " + step) + ", base width " +
                         std::to_string(channels) + ", " + std::to_string(values) + " weights" +
                         (extras.empty() ? "" : "; not used: " + extras));
  }

  const Params params_;
  dkdm::Host& host_;
};

}  // namespace

DKDM_TEACHER("ldm", "1", "the UNet of a latent diffusion model, from its Lightning checkpoint", Ldm)
