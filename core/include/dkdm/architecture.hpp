// What the names and shapes of a checkpoint's tensors tell about its network: the UNet of
// guided-diffusion and improved-diffusion (Dhariwal & Nichol 2021; Nichol & Dhariwal 2021), and DiT
// (Peebles & Xie 2023). Pure functions: no file, no tensor, no plugin.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "dkdm/error.hpp"

namespace dkdm::architecture {

using Shapes = std::vector<std::pair<std::string, std::vector<std::int64_t>>>;

enum class Resampling { residual_blocks, convolutions, pooling };

// Level 0 is the image at full size; each next level halves it.
struct Unet {
  std::int64_t in_channels = 0, out_channels = 0;
  std::int64_t time_channels = 0;    // width of the time step's sinusoid
  std::vector<std::int64_t> widths;  // channels of each level
  std::int64_t num_res_blocks = 0;
  std::vector<bool> attention;  // of each level
  Resampling resampling = Resampling::residual_blocks;
  bool scale_shift = true;
  std::int64_t classes = 0;  // 0 = unconditional
  bool operator==(const Unet&) const = default;
};

struct Dit {
  std::int64_t in_channels = 0, out_channels = 0;
  std::int64_t image_size = 0, patch_size = 0;
  std::int64_t depth = 0, hidden_size = 0, mlp_width = 0;
  std::int64_t classes = 0;  // rows of the label table, "no class" included
  bool operator==(const Dit&) const = default;
};

struct Recognised {
  std::variant<std::monostate, Unet, Dit> network;  // monostate: none of them
  std::string text;      // what it is, or what was recognised and what was not; one line
  bool familiar = true;  // false: nothing of it is known
};

// A tensor's name without the parts that wrappers put into it, wherever they stand: torch.compile
// (_orig_mod), FSDP (_fsdp_wrapped_module), activation checkpointing (_checkpoint_wrapped_module)
// and Fabric (_forward_module).
DKDM_API std::string unwrapped(const std::string& name);

// What stands before the names of a known network's tensors (UNet, DiT, diffusers' UNet2DModel): ""
// or "model.", "module.", "ema_model.module.", an attribute of Lightning's module…, with '.' at the
// end. One entry for each network among them, in the order of the names; other tensors may stand
// beside it.
DKDM_API std::vector<std::string> network_prefixes(const std::vector<std::string>& names);

// The tensors behind `prefix`, under their unwrapped names without it.
DKDM_API Shapes behind(const Shapes& shapes, const std::string& prefix);

// Looks at the tensors that tell the network's options; that all others fit is the strict loader's
// business. Of several networks, the first.
DKDM_API Recognised recognise(const Shapes& shapes);

// What no tensor of a UNet shows.
struct UninferableOptions {
  std::string network;          // whose options these are, "" = guided-diffusion's defaults
  std::int64_t image_size = 0;  // 0 = not known
  std::int64_t num_head_channels = 0, num_heads = 0;  // one of them is 0
  bool new_attention_order = false;
  std::string schedule;
  std::int64_t steps = 0;
  bool rescale_timesteps = false;       // the network is called with t 1000 / steps
  double beta_start = 0, beta_end = 0;  // of the schedule, 0 = its own
};

// For the shapes of the paper's networks, in pixels and in latent space, and of OpenAI's published
// ones, theirs; else the defaults of guided-diffusion's script_util.py: 4 heads, legacy order,
// linear, 1000 steps, and the image size that goes with the multipliers there.
DKDM_API UninferableOptions uninferable_options(const Unet& unet);

// The seven networks of the paper's arch files by name ("57M-CNN", …): RGB images, learned
// variance, no classes. Throws ConfigError for another name.
DKDM_API std::vector<std::string> paper_networks();
DKDM_API Unet paper_network(const std::string& name);

// Heads of a DiT by its width: those of DiT-S, B, L and XL, else one for 64 channels.
DKDM_API std::int64_t usual_heads(const Dit& dit);

}  // namespace dkdm::architecture
