// The JSON files of a diffusers folder: config.json of a UNet2DModel and scheduler_config.json.
// Keys that UNet2DModel takes are understood or refused by name; it ignores any other key, so those
// are reported.
#pragma once

#include <algorithm>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "as_eps.hpp"
#include "dkdm/documents.hpp"
#include "dkdm/io.hpp"
#include "dkdm/json.hpp"
#include "dkdm/params.hpp"
#include "dkdm/shape.hpp"

namespace dkdm::diffusers {

using Json = nlohmann::json;

// What a config.json may say; a published model's widest block has 2,048 channels.
constexpr std::int64_t kLargestSide = 4096, kWidest = 8192;

struct UnetConfig {
  SampleShape shape;  // height 0 = not stated
  std::int64_t out_channels = 3;
  bool center_input = false, flip_sin_to_cos = true, scale_shift = false, mid_attention = true;
  double freq_shift = 0, norm_eps = 1e-5, mid_scale = 1;
  std::vector<std::int64_t> widths;  // block_out_channels
  std::vector<bool> down_attention, up_attention;
  std::int64_t layers = 2, downsample_padding = 1, groups = 32;
  std::int64_t head_channels = 8;          // 0 = one head
  std::int64_t mid_attention_groups = 32;  // 0 = no normalisation before the middle's attention
  std::int64_t time_width = 0;
  std::vector<std::string> ignored;  // keys that UNet2DModel does not take: "decay = 0.9999"
};

struct SchedulerConfig {
  std::string name;  // its class
  DiffusionConfig diffusion;
  teachers::Prediction prediction = teachers::Prediction::eps;
  std::string prediction_type, variance_type;
  bool learned_variance = false;
  // What its sampler does otherwise than the one here, for a person: "timestep_spacing trailing
  // (…)".
  std::vector<std::string> sampling;
};

// One object of a file: every key is asked for, or refused at the end.
class Keys {
 public:
  explicit Keys(const std::filesystem::path& file) : file_(file.string()) {
    try {
      json_ = Json::parse(io::read_document(file));
    } catch (const Json::exception& error) {
      throw DataError(file_, std::string("is not JSON: ") + error.what());
    }
    if (!json_.is_object()) throw DataError(file_, "is not a JSON object");
  }

  const std::string& file() const { return file_; }

  bool is_list(const std::string& key) const {
    return json_.contains(key) && json_.at(key).is_array();
  }
  bool states(const std::string& key) const { return json_.contains(key); }
  bool is_null(const std::string& key) const {
    return !json_.contains(key) || json_.at(key).is_null();
  }

  // Value of `key`, `fallback` where it is absent or null.
  template <class T>
  T get(const std::string& key, const T& fallback) {
    known_.insert(key);
    if (is_null(key)) return fallback;
    try {
      return io::as<T>(json_.at(key));
    } catch (const Json::exception&) {
      throw DataError(file_, key + " is " + json_.at(key).dump() + ", expected something like " +
                                 Json(fallback).dump());
    }
  }

  // An integer of low … high; a number of that range; a list of at most `most` such integers.
  std::int64_t whole(const std::string& key, std::int64_t fallback, std::int64_t low,
                     std::int64_t high) {
    known_.insert(key);
    return is_null(key) ? fallback : checked_whole(key, json_.at(key), low, high);
  }
  double number(const std::string& key, double fallback, double low, double high) {
    known_.insert(key);
    if (is_null(key)) return fallback;
    const Json& value = json_.at(key);
    if (value.is_number() && value.get<double>() >= low && value.get<double>() <= high)
      return value.get<double>();
    refuse(key, value, "a number of " + range(low, high));
  }
  std::vector<std::int64_t> wholes(const std::string& key,
                                   const std::vector<std::int64_t>& fallback, std::int64_t low,
                                   std::int64_t high, std::size_t most) {
    known_.insert(key);
    if (is_null(key)) return fallback;
    const Json& value = json_.at(key);
    if (!value.is_array() || value.size() > most)
      refuse(key, value, "a list of at most " + std::to_string(most) + " integers");
    std::vector<std::int64_t> list;
    for (const Json& each : value) list.push_back(checked_whole(key, each, low, high));
    return list;
  }

  std::vector<std::string> texts(const std::string& key, const std::vector<std::string>& fallback) {
    known_.insert(key);
    if (is_null(key)) return fallback;
    const Json& value = json_.at(key);
    if (!value.is_array() || !std::all_of(value.begin(), value.end(), io::holds<std::string, Json>))
      refuse(key, value, "a list of strings");
    return value.get<std::vector<std::string>>();
  }

  // `key` must be absent or one of `allowed`.
  void only(const std::string& key, const std::vector<Json>& allowed) {
    known_.insert(key);
    if (!json_.contains(key)) return;
    const Json& value = json_.at(key);
    std::string texts;
    for (const Json& each : allowed) {
      if (value == each) return;
      texts += (texts.empty() ? "" : " or ") + each.dump();
    }
    throw DataError(
        file_, key + " is " + shortened(value) + ", which is not supported; expected " + texts);
  }

  void ignore(std::initializer_list<const char*> keys) { known_.insert(keys.begin(), keys.end()); }

  void refuse(std::initializer_list<const char*> keys) const {
    for (const char* key : keys)
      if (!is_null(key))
        throw DataError(file_, std::string(key) + " = " + text(key) + " is not supported");
  }

  // The keys that were not asked for and state something.
  std::vector<std::string> others() const {
    std::vector<std::string> list;
    for (const auto& [key, value] : json_.items())
      if (!key.starts_with("_") && !known_.contains(key) && !value.is_null())
        list.push_back(key + " = " + text(key));
    return list;
  }

 private:
  static std::string range(double low, double high) {
    const auto text = [](double bound) {
      return bound == static_cast<double>(static_cast<std::int64_t>(bound))
                 ? std::to_string(static_cast<std::int64_t>(bound))
                 : to_text(Value(bound));
    };
    return text(low) + "…" + text(high);
  }

  [[noreturn]] void refuse(const std::string& key, const Json& value,
                           const std::string& expected) const {
    throw DataError(file_, key + " is " + shortened(value) + ", expected " + expected);
  }

  std::int64_t checked_whole(const std::string& key, const Json& value, std::int64_t low,
                             std::int64_t high) const {
    if (!io::holds<std::int64_t>(value) || value.get<std::int64_t>() < low ||
        value.get<std::int64_t>() > high)
      refuse(key, value, "an integer of " + range(double(low), double(high)));
    return value.get<std::int64_t>();
  }

  std::string text(const std::string& key) const { return shortened(json_.at(key)); }

  // A value, not longer than a line.
  static std::string shortened(const Json& value) {
    const std::string text = value.dump(-1, ' ', true);
    return text.size() <= 80 ? text : text.substr(0, 80) + "…";
  }

  std::string file_;
  Json json_;
  std::set<std::string> known_;
};

// "DownBlock2D" -> false, "AttnDownBlock2D" -> true.
inline std::vector<bool> with_attention(Keys& keys, const std::string& key,
                                        const std::string& plain,
                                        const std::vector<std::string>& fallback) {
  std::vector<bool> attention;
  for (const std::string& type : keys.texts(key, fallback)) {
    if (type != plain && type != "Attn" + plain) {
      throw DataError(keys.file(), key + " has \"" + type +
                                       "\", which is not supported; expected \"" + plain +
                                       "\" or \"Attn" + plain + "\"");
    }
    attention.push_back(type != plain);
  }
  return attention;
}

// Throws DataError where the numbers of `config` make no network.
inline void check(const UnetConfig& config, const std::string& file) {
  const auto fail = [&](const std::string& what) { throw DataError(file, what); };
  if (config.widths.empty() || config.widths.size() != config.down_attention.size() ||
      config.widths.size() != config.up_attention.size()) {
    fail("block_out_channels, down_block_types and up_block_types have " +
         std::to_string(config.widths.size()) + ", " +
         std::to_string(config.down_attention.size()) + " and " +
         std::to_string(config.up_attention.size()) + " entries, expected equal numbers");
  }
  if (config.widths.front() < 4 || config.widths.front() % 2 != 0)
    fail("block_out_channels starts with " + std::to_string(config.widths.front()) +
         ", expected an even number");
  for (std::size_t level = 0; level < config.widths.size(); ++level) {
    const auto width = config.widths[level];
    if (width < 1 || width % config.groups != 0)
      fail("block_out_channels has " + std::to_string(width) + ", expected a multiple of the " +
           std::to_string(config.groups) + " of norm_num_groups");
    const bool attends = config.down_attention[level] ||
                         config.up_attention[config.widths.size() - 1 - level] ||
                         (config.mid_attention && level + 1 == config.widths.size());
    if (attends && config.head_channels > 0 && width % config.head_channels != 0)
      fail("attention_head_dim is " + std::to_string(config.head_channels) +
           ", expected a divisor of the " + std::to_string(width) + " channels of a block");
  }
  if (config.mid_attention_groups > 0 && config.widths.back() % config.mid_attention_groups != 0)
    fail("attn_norm_num_groups does not divide the middle's " +
         std::to_string(config.widths.back()) + " channels");
}

inline UnetConfig read_unet(const std::filesystem::path& file) {
  Keys keys(file);
  keys.only("_class_name", {"UNet2DModel"});
  UnetConfig config;
  config.shape.channels = keys.whole("in_channels", 3, 1, 64);
  config.out_channels = keys.whole("out_channels", 3, 1, 128);
  // A number, or height and width.
  if (!keys.is_list("sample_size")) {
    config.shape.height = config.shape.width = keys.whole("sample_size", 0, 1, kLargestSide);
  } else {
    const auto sides = keys.wholes("sample_size", {}, 1, kLargestSide, 2);
    if (sides.size() != 2)
      throw DataError(file.string(), "sample_size is not a number, nor height and width");
    config.shape.height = sides[0];
    config.shape.width = sides[1];
  }
  config.center_input = keys.get("center_input_sample", false);
  config.flip_sin_to_cos = keys.get("flip_sin_to_cos", true);
  config.freq_shift = keys.number("freq_shift", 0, -1000, 1000);
  config.widths = keys.wholes("block_out_channels", {224, 448, 672, 896}, 1, kWidest, 16);
  config.down_attention =
      with_attention(keys, "down_block_types", "DownBlock2D",
                     {"DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"});
  config.up_attention =
      with_attention(keys, "up_block_types", "UpBlock2D",
                     {"AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"});
  config.layers = keys.whole("layers_per_block", 2, 1, 64);
  config.mid_scale = keys.number("mid_block_scale_factor", 1, 1e-6, 1e6);
  config.downsample_padding = keys.whole("downsample_padding", 1, 0, 1);
  // Stated as null it is one head; left out it is the class's default.
  const bool one_head = keys.states("attention_head_dim") && keys.is_null("attention_head_dim");
  config.head_channels = keys.whole("attention_head_dim", one_head ? 0 : 8, 1, kWidest);
  if (keys.states("norm_num_groups") && keys.is_null("norm_num_groups"))
    throw DataError(file.string(), "norm_num_groups is null, expected a number");
  config.groups = keys.whole("norm_num_groups", 32, 1, kWidest);
  config.norm_eps = keys.number("norm_eps", 1e-5, 0, 1);
  keys.only("resnet_time_scale_shift", {"default", "scale_shift"});
  config.scale_shift = keys.get<std::string>("resnet_time_scale_shift", "default") == "scale_shift";
  config.mid_attention = keys.get("add_attention", true);
  config.mid_attention_groups =
      keys.whole("attn_norm_num_groups", config.scale_shift ? 0 : config.groups, 1, kWidest);
  config.time_width = keys.whole("time_embedding_dim", 0, 1, 65536);
  keys.only("time_embedding_type", {"positional"});
  keys.only("mid_block_type", {"UNetMidBlock2D"});
  keys.only("downsample_type", {"conv"});
  keys.only("upsample_type", {"conv"});
  keys.only("act_fn", {"silu", "swish"});
  keys.ignore({"dropout", "num_train_timesteps"});
  // The rest of what UNet2DModel's constructor takes, and what changes the weights as they are
  // loaded.
  keys.refuse({"class_embed_type", "num_class_embeds", "quantization_config"});
  config.ignored = keys.others();
  check(config, file.string());
  if (config.time_width == 0) config.time_width = 4 * config.widths.front();
  return config;
}

// What the scheduler's sampler would do that the one here does not, or only when it is told to.
inline std::vector<std::string> sampling_differences(Keys& keys, const std::string& scheduler) {
  std::vector<std::string> differences;
  const bool plain = scheduler == "DDPMScheduler" || scheduler == "DDIMScheduler";
  const bool strides = plain || scheduler == "PNDMScheduler";
  const auto spacing = keys.get<std::string>("timestep_spacing", strides ? "leading" : "linspace");
  const auto offset = keys.whole("steps_offset", 0, 0, 100000);
  if (spacing == "leading") {
    differences.push_back(
        "timestep_spacing leading: respacing \"ddimN\" keeps its steps where N divides "
        "the steps, \"N\" does not");
  } else if (spacing == "linspace") {
    differences.push_back(
        "timestep_spacing linspace: respacing \"N\" keeps its steps but for roundings");
  } else {
    differences.push_back("timestep_spacing " + spacing + ": no respacing keeps its steps");
  }
  if (spacing == "leading" && offset != 0) {
    differences.push_back("steps_offset " + std::to_string(offset) +
                          (offset == 1 ? ": [sample] steps_offset is 0 unless it is set to 1"
                                       : ": its steps are so many later, here at most 1"));
  }
  if (!keys.get("clip_sample", plain)) {
    differences.push_back(
        "clip_sample off: [sample] clip_denoised is on unless it is set to false");
  } else if (const double range = keys.number("clip_sample_range", 1, 0, 1e6); range != 1) {
    differences.push_back("clip_sample_range " + to_text(Value(range)) +
                          ": here images are clipped at 1");
  }
  if (keys.get("thresholding", false))
    differences.push_back("thresholding: here only the sampler dpm-solver thresholds");
  if (!keys.get("set_alpha_to_one", scheduler != "PNDMScheduler")) {
    differences.push_back(
        "set_alpha_to_one off: [sample] set_alpha_to_one is on unless it is set to false");
  }
  if (!plain) differences.push_back("drawn by " + scheduler + ": here [sample] sampler decides");
  return differences;
}

inline SchedulerConfig read_scheduler(const std::filesystem::path& file) {
  Keys keys(file);
  // Those whose process is the one of DDPM, with the same defaults.
  keys.only("_class_name",
            {"DDPMScheduler", "DDIMScheduler", "PNDMScheduler", "DPMSolverMultistepScheduler",
             "DPMSolverSinglestepScheduler", "DEISMultistepScheduler", "UniPCMultistepScheduler"});
  SchedulerConfig config;
  config.name = keys.get<std::string>("_class_name", "DDPMScheduler");
  auto& diffusion = config.diffusion;
  diffusion.steps = keys.whole("num_train_timesteps", 1000, 2, 100000);
  keys.only("beta_schedule", {"linear", "scaled_linear", "squaredcos_cap_v2"});
  diffusion.schedule = keys.get<std::string>("beta_schedule", "linear");
  const double start = keys.number("beta_start", 0.0001, 0, 1);
  const double end = keys.number("beta_end", 0.02, 0, 1);
  const double scale = 1000.0 / static_cast<double>(std::max<std::int64_t>(1, diffusion.steps));
  if (diffusion.schedule == "squaredcos_cap_v2") {
    diffusion.schedule = "cosine";
  } else if (start != scale * 0.0001 || end != scale * 0.02) {
    diffusion.beta_start = start;
    diffusion.beta_end = end;
  }
  keys.only("trained_betas", {nullptr});
  keys.only("rescale_betas_zero_snr", {false});
  keys.only("prediction_type", {"epsilon", "sample", "v_prediction"});
  config.prediction_type = keys.get<std::string>("prediction_type", "epsilon");
  if (config.prediction_type == "sample") config.prediction = teachers::Prediction::sample;
  if (config.prediction_type == "v_prediction") config.prediction = teachers::Prediction::v;
  keys.only("variance_type", {nullptr, "fixed_small", "fixed_small_log", "fixed_large",
                              "fixed_large_log", "learned_range"});
  config.variance_type = keys.get<std::string>("variance_type", "");
  config.learned_variance = config.variance_type == "learned_range";
  const bool large = config.variance_type.starts_with("fixed_large");
  // Without a statement the class's own: DDPM's default, and what DDIM has with eta 1.
  if (!large && !config.learned_variance) diffusion.variance = "fixed_small";
  config.sampling = sampling_differences(keys, config.name);
  return config;  // its other keys are about sampling, which the run decides
}

}  // namespace dkdm::diffusers
