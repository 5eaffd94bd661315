// Where the weights of a VQModel are in a checkpoint file, and what they are called: as
// `first_stage_model.…` in a latent diffusion model's Lightning checkpoint, under their own names
// in an autoencoder's ({"state_dict": …}, or safetensors), or in the layout of diffusers' VQModel.
#pragma once

#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "dkdm/checkpoint.hpp"
#include "dkdm/error.hpp"

namespace dkdm::autoencoders {

constexpr std::string_view kFirstStage = "first_stage_model.";
constexpr std::string_view kCodebook = "quantize.embedding.weight";

// `name` of diffusers' VQModel in the reference's words; `levels` of the network.
inline std::string from_diffusers(std::string name, std::size_t levels) {
  // Of diffusers 0.1x and, for attention, of later ones.
  static const std::array<std::pair<std::string_view, std::string_view>, 16> kWords{{
      {".down_blocks.", ".down."},
      {".up_blocks.", ".up."},
      {".mid_block.resnets.0.", ".mid.block_1."},
      {".mid_block.resnets.1.", ".mid.block_2."},
      {".mid_block.attentions.0.", ".mid.attn_1."},
      {".resnets.", ".block."},
      {".downsamplers.0.", ".downsample."},
      {".upsamplers.0.", ".upsample."},
      {".conv_shortcut.", ".nin_shortcut."},
      {".conv_norm_out.", ".norm_out."},
      {".group_norm.", ".norm."},
      {".to_q.", ".q."},
      {".to_k.", ".k."},
      {".to_v.", ".v."},
      {".to_out.0.", ".proj_out."},
      {".proj_attn.", ".proj_out."},
  }};
  static const std::array<std::pair<std::string_view, std::string_view>, 3> kOlder{
      {{".query.", ".q."}, {".key.", ".k."}, {".value.", ".v."}}};
  const auto replace = [&](std::string_view from, std::string_view to) {
    if (const auto at = name.find(from); at != std::string::npos) name.replace(at, from.size(), to);
  };
  for (const auto& [from, to] : kWords) replace(from, to);
  for (const auto& [from, to] : kOlder) replace(from, to);
  // There the decoder's blocks count from the lowest resolution.
  constexpr std::string_view kUp = "decoder.up.";
  if (name.starts_with(kUp) && name.size() > kUp.size() + 1 && name[kUp.size() + 1] == '.') {
    const auto block = static_cast<std::size_t>(name[kUp.size()] - '0');
    if (block < levels) name.replace(kUp.size(), 1, std::to_string(levels - 1 - block));
  }
  return name;
}

struct VqWeights {
  io::NamedTensors tensors;  // under the reference's names
  std::string said;          // where they are and what was left aside, for the log
};

// Throws DataError that says what there is, and for a damaged or non-finite tensor.
inline VqWeights vq_weights(const std::filesystem::path& file, std::size_t levels) {
  const io::CheckpointFile checkpoint = io::read_checkpoint(file);
  const auto fail = [&](const std::string& what) { throw DataError(file.string(), what); };
  const io::StateDict* state = nullptr;
  std::string_view prefix;
  std::size_t most = 0;  // tensors of the largest dictionary, which is the model's
  bool diffusion = false;
  for (const io::StateDict& one : checkpoint.states) {
    for (const std::string_view before : {kFirstStage, std::string_view()}) {
      const bool holds =
          std::any_of(one.tensors.begin(), one.tensors.end(), [&](const auto& entry) {
            return entry.first.starts_with(before) &&
                   entry.first.substr(before.size()) == kCodebook;
          });
      if (!holds) continue;
      if (state) fail("holds several autoencoders with a codebook; keep one of them");
      state = &one;
      prefix = before;
    }
    most = std::max(most, one.tensors.size());
    diffusion =
        diffusion || std::any_of(one.tensors.begin(), one.tensors.end(), [](const auto& entry) {
          return entry.first.starts_with("model.diffusion_model.");
        });
  }
  if (!state) {
    fail("holds no autoencoder with a codebook: no dictionary has " + std::string(kCodebook) +
         ", alone or behind " + std::string(kFirstStage) +
         (diffusion ? "; a distilled student's file leaves it out: give its teacher's"
                    : "; the largest has " + std::to_string(most) + " tensors"));
  }

  VqWeights found;
  found.said = (state->path.empty() ? "" : "from '" + state->path + "'");
  if (!prefix.empty()) found.said += ", behind " + std::string(prefix);
  std::size_t losses = 0;
  bool diffusers = false;
  for (const auto& [name, tensor] : state->tensors) {
    if (!name.starts_with(prefix)) continue;
    const std::string own = name.substr(prefix.size());
    // Discriminator and perceptual loss of its own training.
    if (own.starts_with("loss.")) {
      ++losses;
      continue;
    }
    diffusers = diffusers || own.find(".mid_block.") != std::string::npos;
    found.tensors.emplace_back(own, tensor);
  }
  for (const auto& [name, what] : state->left_out)
    if (name.starts_with(prefix) && !name.substr(prefix.size()).starts_with("loss."))
      fail("tensor '" + name + "' is " + what + ", which is not read");
  if (losses > 0) found.said += ", without " + std::to_string(losses) + " tensors of loss.…";
  if (diffusers) {
    found.said += ", in diffusers' layout";
    for (auto& [name, tensor] : found.tensors) {
      name = from_diffusers(name, levels);
      // Its attention has linear layers.
      if (name.find(".mid.attn_1.") != std::string::npos && tensor.dim() == 2)
        tensor = tensor.unsqueeze(2).unsqueeze(3);
    }
  }
  io::compare_checksums(checkpoint, found.tensors);
  io::check_finite({state->path, found.tensors}, file);
  return found;
}

}  // namespace dkdm::autoencoders
