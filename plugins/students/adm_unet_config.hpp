// What an ADM UNet is made of: its parameters, the paper's networks, and the checks.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "dkdm/params.hpp"
#include "dkdm/shape.hpp"
#include "image_sides.hpp"

namespace dkdm::adm {

constexpr std::int64_t kGroups = 32;  // of normalisation
constexpr std::size_t kMostLevels = 16;

struct Config {
  std::int64_t model_channels, num_res_blocks, num_head_channels;
  std::vector<std::int64_t> channel_mult, attention_resolutions;
  double dropout;
  // What the reference's UNetModel can be besides; here as the paper's networks have it.
  std::int64_t num_heads = 0, num_heads_upsample = 0, time_channels = 0;
  bool scale_shift = true, resblock_updown = true, conv_resample = true, new_order = true;

  // Heads of an attention layer of so many channels, in the output blocks or before them.
  std::int64_t heads(std::int64_t channels, bool output) const {
    if (num_heads == 0) return channels / num_head_channels;
    return output && num_heads_upsample > 0 ? num_heads_upsample : num_heads;
  }
};

// The paper's networks: the authors' arch files, and of latent space LDM-VQ-4 (Rombach et al. 2022,
// celebahq-ldm-vq-4.yaml) with the student of it, for latents of 64 x 64.
struct Preset {
  std::string name;
  std::int64_t image_size;
  Config config;
  bool can_learn_sigma = true;
};

// Base width alone tells the two apart.
inline Preset latent_preset(const char* name, std::int64_t model_channels) {
  Config config{model_channels, 2, 32, {1, 2, 3, 4}, {32, 16, 8}, 0};
  config.scale_shift = config.resblock_updown = config.new_order = false;
  return {name, 64, config, /*can_learn_sigma=*/false};
}

inline const std::vector<Preset>& presets() {
  static const std::vector<Preset> table{
      {"14M-CNN", 32, {64, 3, 32, {1, 2, 2, 2}, {16, 8}, 0.3}},
      {"24M-CNN", 32, {96, 2, 32, {1, 2, 2, 2}, {16, 8}, 0.3}},
      {"32M-CNN", 32, {96, 3, 32, {1, 2, 2, 2}, {16, 8}, 0.3}},
      {"44M-CNN", 32, {128, 2, 32, {1, 2, 2, 2}, {16, 8}, 0.3}},
      {"57M-CNN", 32, {128, 3, 32, {1, 2, 2, 2}, {16, 8}, 0.3}},
      {"57M-CNN-CelebA", 64, {96, 2, 32, {1, 2, 3, 4}, {32, 16, 8}, 0.1}},
      {"295M-CNN", 64, {192, 3, 64, {1, 2, 3, 4}, {32, 16, 8}, 0.1}},
      latent_preset("LDM-274M", 224),
      latent_preset("LDM-89M", 128),
  };
  return table;
}

inline ParamTable param_table() {
  std::vector<std::string> names{""};
  for (const Preset& preset : presets()) names.push_back(preset.name);
  return {
      text("preset", "", "a network of the paper: sets everything but learn_sigma").one_of(names),
      integer("model_channels", 64, "base width; levels are multiples of it").between(2, 4096),
      integer("num_res_blocks", 3, "residual blocks a level").between(1, 64),
      integers("channel_mult", {1, 2, 2, 2}, "width of each level, in model_channels")
          .between(1, 64)
          .at_most_elements(kMostLevels),
      integers("attention_resolutions", {16, 8},
               "image sizes, in pixels of the shorter side, that have attention")
          .between(1, 4096)
          .at_most_elements(kMostLevels),
      integer("num_head_channels", 32, "channels of an attention head").between(1, 65536),
      real("dropout", 0.3, "dropout in residual blocks").between(0, 0.99),
      flag("learn_sigma", true, "predict the variance as well"),
      integer("num_heads", 0, "attention heads at every width (0 = by num_head_channels)")
          .between(0, 1024),
      integer("num_heads_upsample", 0, "the same on the way up (0 = num_heads)").between(0, 1024),
      flag("use_new_attention_order", true,
           "q, k and v before heads in the attention's channels "
           "(false = OpenAI's older networks)"),
      flag("use_scale_shift_norm", true, "the time scales and shifts (false = is added)"),
      flag("resblock_updown", true, "resample inside residual blocks"),
      flag("conv_resample", true,
           "where not inside residual blocks: by convolutions (false = by "
           "pooling and repetition)"),
      integer("time_channels", 0, "width of the time step's sinusoid (0 = model_channels)")
          .between(0, 65536),
  };
}

inline Config preset_config(const Params& params, const SampleShape& shape) {
  const std::string& name = params.text("preset");
  const auto preset = std::find_if(presets().begin(), presets().end(),
                                   [&](const Preset& p) { return p.name == name; });
  if (preset->image_size != shape.height || preset->image_size != shape.width) {
    throw ConfigError("preset \"" + name + "\" is for images of " +
                      std::to_string(preset->image_size) + " pixels, got " +
                      students::sides_text(shape) +
                      "; leave it out and give model_channels and so on");
  }
  if (!preset->can_learn_sigma && params.flag("learn_sigma"))
    throw ConfigError("preset \"" + name +
                      "\" predicts no variance; set learn_sigma = false as well");
  for (const Param& param : param_table()) {
    if (param.name == "preset" || param.name == "learn_sigma") continue;
    if (params.values().at(param.name) == param.default_value) continue;
    throw ConfigError("preset \"" + name + "\" sets " + param.name + "; leave one of them out");
  }
  return preset->config;
}

inline std::string listed(const std::vector<std::int64_t>& numbers) {
  std::string text;
  for (const auto n : numbers) text += (text.empty() ? "" : ", ") + std::to_string(n);
  return text;
}

// Throws ConfigError where `channels` of an attention layer cannot be split into its heads.
inline void check_heads(const Config& config, std::int64_t channels) {
  if (config.num_heads == 0 && channels % config.num_head_channels != 0) {
    throw ConfigError("num_head_channels is " + std::to_string(config.num_head_channels) +
                      ", expected a divisor of the " + std::to_string(channels) +
                      " channels of a level with attention");
  }
  for (const bool output : {false, true}) {
    if (const auto heads = config.heads(channels, output); channels % heads != 0) {
      throw ConfigError((output ? "num_heads_upsample is " : "num_heads is ") +
                        std::to_string(heads) + ", expected a divisor of the " +
                        std::to_string(channels) + " channels of a level with attention");
    }
  }
}

// Throws ConfigError for a network that cannot be.
inline void check(const Config& config, const SampleShape& shape) {
  const auto fail = [](const std::string& what) { throw ConfigError(what); };
  if (config.channel_mult.empty()) {
    fail("channel_mult is empty, expected one multiplier a level, such as [1, 2, 2]");
  }
  if (config.time_channels % 2 != 0) {
    fail((config.time_channels == config.model_channels ? "model_channels is "
                                                        : "time_channels is ") +
         std::to_string(config.time_channels) + ", expected an even number");
  }
  if (config.num_heads == 0 && config.num_heads_upsample > 0) {
    fail("num_heads_upsample is " + std::to_string(config.num_heads_upsample) +
         " without num_heads; give both or num_head_channels");
  }
  students::check_levels(shape, config.channel_mult.size());
  std::vector<std::int64_t> sizes;
  for (std::size_t level = 0; level < config.channel_mult.size(); ++level)
    sizes.push_back(shape.shorter_side() >> level);
  std::vector<std::int64_t> attending{config.channel_mult.back()};  // the middle always does
  for (const auto resolution : config.attention_resolutions) {
    const auto level = std::find(sizes.begin(), sizes.end(), resolution);
    if (level == sizes.end()) {
      fail("attention_resolutions has " + std::to_string(resolution) +
           ", expected sizes of this network's levels: " + listed(sizes));
    }
    attending.push_back(config.channel_mult[static_cast<std::size_t>(level - sizes.begin())]);
  }
  for (const auto mult : config.channel_mult) {
    if (mult * config.model_channels % kGroups == 0) continue;
    fail("channel_mult " + std::to_string(mult) + " times model_channels " +
         std::to_string(config.model_channels) + " is " +
         std::to_string(mult * config.model_channels) + " channels, expected a multiple of the " +
         std::to_string(kGroups) + " groups of normalisation");
  }
  for (const auto mult : attending) check_heads(config, mult * config.model_channels);
}

// Complete and checked; time_channels is set.
inline Config config_of(const Params& params, const SampleShape& shape) {
  const bool preset = !params.text("preset").empty();
  Config config = preset ? preset_config(params, shape)
                         : Config{params.integer("model_channels"),
                                  params.integer("num_res_blocks"),
                                  params.integer("num_head_channels"),
                                  params.integers("channel_mult"),
                                  params.integers("attention_resolutions"),
                                  params.real("dropout"),
                                  params.integer("num_heads"),
                                  params.integer("num_heads_upsample"),
                                  params.integer("time_channels"),
                                  params.flag("use_scale_shift_norm"),
                                  params.flag("resblock_updown"),
                                  params.flag("conv_resample"),
                                  params.flag("use_new_attention_order")};
  if (config.time_channels == 0) config.time_channels = config.model_channels;
  check(config, shape);
  return config;
}

}  // namespace dkdm::adm
