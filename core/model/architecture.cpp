// Recognition of networks from their tensors' names and shapes (dkdm/architecture.hpp).
#include "dkdm/architecture.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>
#include <string_view>

namespace dkdm::architecture {
namespace {

using Shape = std::vector<std::int64_t>;

std::string listed(const std::vector<std::string>& words) {
  std::string text;
  for (const auto& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

std::string counted(std::int64_t count, const std::string& noun) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

// The tensors by name, asked for with what is expected of them.
class Tensors {
 public:
  explicit Tensors(const Shapes& shapes) : shapes_(shapes.begin(), shapes.end()) {}

  bool has(const std::string& name) const { return shapes_.contains(name); }

  bool has_below(const std::string& prefix) const {
    const auto found = shapes_.lower_bound(prefix);
    return found != shapes_.end() && found->first.starts_with(prefix);
  }

  bool has_end(const std::string& ending) const {
    return std::any_of(shapes_.begin(), shapes_.end(),
                       [&](const auto& shape) { return shape.first.ends_with(ending); });
  }

  // Length `dim` of tensor `name` with `rank` dimensions, or 0: absent or of another rank. What the
  // caller was after is then remembered as the reason.
  std::int64_t length(const std::string& name, std::size_t rank, std::size_t dim) {
    const auto found = shapes_.find(name);
    if (found != shapes_.end() && found->second.size() == rank) return found->second[dim];
    if (problem.empty()) {
      problem = found == shapes_.end() ? "there is no " + name
                                       : name + " has " + std::to_string(found->second.size()) +
                                             " dimensions, expected " + std::to_string(rank);
    }
    return 0;
  }

  // One more than the largest number N in names `prefix`N.…; 0 when there is none.
  std::int64_t count(const std::string& prefix) const {
    std::int64_t count = 0;
    for (auto it = shapes_.lower_bound(prefix);
         it != shapes_.end() && it->first.starts_with(prefix); ++it) {
      const auto end = it->first.find('.', prefix.size());
      const std::string number = it->first.substr(prefix.size(), end - prefix.size());
      const bool digits =
          !number.empty() && number.size() < 6 &&
          std::all_of(
              number.begin(), number.end(), [](unsigned char c) { return c >= '0' && c <= '9'; });
      if (digits) count = std::max(count, std::int64_t{std::stol(number)} + 1);
    }
    return count;
  }

  const std::map<std::string, Shape>& all() const { return shapes_; }

  std::string problem;

 private:
  std::map<std::string, Shape> shapes_;
};

std::string at(const std::string& list, std::int64_t index, const std::string& rest) {
  return list + "." + std::to_string(index) + "." + rest;
}

// How the UNet doubles the image, and after how many output blocks: those that have an upsampling
// layer after their residual block and attention. Names of pooling show nothing; there the missing
// input blocks tell.
struct Levels {
  std::int64_t count = 1;
  Resampling resampling = Resampling::residual_blocks;
};

Levels levels_of(const Tensors& tensors, std::int64_t inputs, std::int64_t outputs) {
  std::int64_t blocks = 0, convolutions = 0, missing = 0;
  for (std::int64_t i = 0; i < outputs; ++i) {
    if (tensors.has(at("output_blocks", i, "1.in_layers.0.weight")) ||
        tensors.has(at("output_blocks", i, "2.in_layers.0.weight"))) {
      ++blocks;
    } else if (tensors.has(at("output_blocks", i, "1.conv.weight")) ||
               tensors.has(at("output_blocks", i, "2.conv.weight"))) {
      ++convolutions;
    }
  }
  for (std::int64_t i = 1; i < inputs; ++i)
    missing += tensors.has_below("input_blocks." + std::to_string(i) + ".") ? 0 : 1;
  if (blocks > 0) return {blocks + 1, Resampling::residual_blocks};
  if (convolutions > 0) return {convolutions + 1, Resampling::convolutions};
  if (missing > 0) return {missing + 1, Resampling::pooling};
  return {};
}

// Fills `unet`, or leaves a reason in tensors.problem.
bool read_unet(Tensors& tensors, Unet& unet) {
  const std::int64_t embedding = tensors.length("time_embed.0.weight", 2, 0);
  unet.time_channels = tensors.length("time_embed.0.weight", 2, 1);
  unet.in_channels = tensors.length("input_blocks.0.0.weight", 4, 1);
  unet.out_channels = tensors.length("out.2.weight", 4, 0);
  if (!tensors.problem.empty()) return false;
  if (embedding != 4 * unet.time_channels) {
    tensors.problem = "time_embed.0.weight makes " + std::to_string(embedding) + " channels of " +
                      std::to_string(unet.time_channels) + ", expected four times as many";
    return false;
  }

  const std::int64_t inputs = tensors.count("input_blocks.");
  const std::int64_t outputs = tensors.count("output_blocks.");
  const Levels levels = levels_of(tensors, inputs, outputs);
  unet.resampling = levels.resampling;
  unet.num_res_blocks = outputs / levels.count - 1;
  const std::int64_t stride = unet.num_res_blocks + 1;
  if (unet.num_res_blocks < 1 || outputs != levels.count * stride || inputs != outputs) {
    tensors.problem = counted(inputs, "input block") + " and " + counted(outputs, "output block") +
                      " do not make " + counted(levels.count, "level");
    return false;
  }
  for (std::int64_t level = 0; level < levels.count; ++level) {
    const std::int64_t first = level * stride + 1;
    unet.widths.push_back(tensors.length(at("input_blocks", first, "0.out_layers.0.weight"), 1, 0));
    unet.attention.push_back(tensors.has(at("input_blocks", first, "1.qkv.weight")));
  }
  const std::int64_t modulation = tensors.length("input_blocks.1.0.emb_layers.1.weight", 2, 0);
  if (!tensors.problem.empty()) return false;
  unet.scale_shift = modulation == 2 * unet.widths.front();
  unet.classes = tensors.has("label_emb.weight") ? tensors.length("label_emb.weight", 2, 0) : 0;
  const bool cross_attention =
      std::any_of(tensors.all().begin(), tensors.all().end(), [](const auto& entry) {
        return entry.first.find(".transformer_blocks.") != std::string::npos;
      });
  if (cross_attention) tensors.problem = "it attends to a text or another condition";
  return tensors.problem.empty();
}

bool read_dit(Tensors& tensors, Dit& dit) {
  const std::int64_t tokens = tensors.length("pos_embed", 3, 1);
  dit.hidden_size = tensors.length("pos_embed", 3, 2);
  dit.in_channels = tensors.length("x_embedder.proj.weight", 4, 1);
  dit.patch_size = tensors.length("x_embedder.proj.weight", 4, 2);
  dit.mlp_width = tensors.length("blocks.0.mlp.fc1.weight", 2, 0);
  const std::int64_t outputs = tensors.length("final_layer.linear.weight", 2, 0);
  dit.depth = tensors.count("blocks.");
  if (tensors.has("y_embedder.embedding_table.weight"))
    dit.classes = tensors.length("y_embedder.embedding_table.weight", 2, 0);
  if (!tensors.problem.empty()) return false;
  const auto grid = static_cast<std::int64_t>(std::llround(std::sqrt(static_cast<double>(tokens))));
  const std::int64_t area = dit.patch_size * dit.patch_size;
  if (grid * grid != tokens || area == 0 || outputs % area != 0 || dit.hidden_size == 0) {
    tensors.problem = "pos_embed has " + std::to_string(tokens) +
                      " tokens and final_layer.linear.weight " + std::to_string(outputs) +
                      " rows, which is not a square of patches of " +
                      std::to_string(dit.patch_size) + " pixels";
    return false;
  }
  dit.image_size = grid * dit.patch_size;
  dit.out_channels = outputs / area;
  return true;
}

std::string channels_text(std::int64_t in, std::int64_t out) {
  std::string text = counted(in, "channel") + " in, " + std::to_string(out) + " out";
  if (out == in) text += " (eps alone)";
  if (out == 2 * in) text += " (eps and the variance)";
  return text;
}

std::string classes_text(std::int64_t classes) {
  return classes > 0 ? ", conditional on " + std::to_string(classes) + " classes" : "";
}

std::string describe(const Unet& unet) {
  std::vector<std::string> widths, attention;
  for (std::size_t level = 0; level < unet.widths.size(); ++level) {
    widths.push_back(std::to_string(unet.widths[level]));
    if (unet.attention[level])
      attention.push_back(level == 0 ? "1" : "1/" + std::to_string(std::int64_t{1} << level));
  }
  std::string text =
      "guided-diffusion UNet: " + channels_text(unet.in_channels, unet.out_channels) +
      ", levels of " + listed(widths) + " channels, " +
      counted(unet.num_res_blocks, "residual block") + " each, attention at ";
  text += attention.empty() ? "none but the middle" : listed(attention) + " of the image size";
  if (unet.resampling == Resampling::residual_blocks) text += ", resampling in residual blocks";
  if (unet.resampling == Resampling::convolutions) text += ", resampling by convolutions";
  if (unet.resampling == Resampling::pooling) text += ", resampling by pooling";
  text += unet.scale_shift ? ", time scales and shifts" : ", time is added";
  return text + classes_text(unet.classes);
}

std::string describe(const Dit& dit) {
  return "DiT: " + channels_text(dit.in_channels, dit.out_channels) + ", " +
         std::to_string(dit.image_size) + " pixels in patches of " +
         std::to_string(dit.patch_size) + ", " + counted(dit.depth, "block") + " of width " +
         std::to_string(dit.hidden_size) + ", MLP of " + std::to_string(dit.mlp_width) +
         classes_text(dit.classes);
}

// Networks that are known by sight but are not these.
std::string other_network(const Tensors& tensors) {
  if (tensors.has("conv_in.weight") && tensors.has_below("down_blocks.")) {
    return "a diffusers UNet2DModel: the teacher \"diffusers\" reads its folder";
  }
  if (tensors.has_below("input_blocks.") && !tensors.has_below("output_blocks.")) {
    return "the encoder half of guided-diffusion's UNet (a classifier): it has no output_blocks";
  }
  if (tensors.has_end("flat_param")) {
    return "the flat parameters of FSDP, which lost names and shapes of the weights: save a full state dict "
           "(StateDictType.FULL_STATE_DICT, or get_model_state_dict with full_state_dict=True)";
  }
  return "";
}

// The options that a network was published with, by its shape.
struct Known {
  std::int64_t channels, num_res_blocks;
  std::vector<double> multipliers;
  std::vector<bool> attention;
  bool residual_resampling, scale_shift;
  UninferableOptions hidden;
  std::string paper_name{};  // of the paper's arch file, "" = another's network
};

const std::vector<Known>& known_networks() {
  const std::vector<double> cifar{1, 2, 2, 2}, small{1, 2, 3, 4}, medium{1, 1, 2, 3, 4},
      large{1, 1, 2, 2, 4, 4}, huge{0.5, 1, 1, 2, 2, 4, 4};
  const std::vector<bool> half{false, true, true, false}, from_half{false, true, true, true};
  const auto paper = [&](std::int64_t channels, std::int64_t blocks, const char* name,
                         std::int64_t size, std::int64_t head_channels, const char* also = "") {
    const bool is_small = size == 32;
    return Known{channels,
                 blocks,
                 is_small ? cifar : small,
                 is_small ? half : from_half,
                 true,
                 true,
                 {std::string("the paper's ") + name + also, size, head_channels, 0, true, "cosine",
                  1000, false},
                 name};
  };
  // Latent diffusion's network for faces, LDM-VQ-4, and the paper's student of it.
  const auto latent = [&](std::int64_t channels, const char* name) {
    return Known{channels,
                 2,
                 small,
                 from_half,
                 false,
                 false,
                 {name, 64, 32, 0, false, "scaled_linear", 1000, false, 0.0015, 0.0195}};
  };
  static const std::vector<Known> table{
      // The paper's arch files.
      paper(64, 3, "14M-CNN", 32, 32),
      paper(96, 2, "24M-CNN", 32, 32),
      paper(96, 3, "32M-CNN", 32, 32),
      paper(128, 2, "44M-CNN", 32, 32),
      paper(128, 3, "57M-CNN", 32, 32),
      paper(96, 2, "57M-CNN-CelebA", 64, 32),
      paper(192, 3, "295M-CNN", 64, 64, ", which is OpenAI's ImageNet-64"),
      latent(224, "latent diffusion's CelebA-HQ and FFHQ (LDM-274M)"),
      latent(128, "the paper's LDM-89M"),
      // guided-diffusion's README.
      {256,
       2,
       medium,
       {false, false, true, true, true},
       true,
       true,
       {"OpenAI's ImageNet-128", 128, 0, 4, false, "linear", 1000, false}},
      {256,
       2,
       large,
       {false, false, false, true, true, true},
       true,
       true,
       {"OpenAI's ImageNet-256 and LSUN", 256, 64, 0, false, "linear", 1000, false}},
      {256,
       2,
       huge,
       {false, false, false, false, true, true, true},
       true,
       true,
       {"OpenAI's ImageNet-512", 512, 64, 0, false, "linear", 1000, false}},
      // improved-diffusion's README; rescale_timesteps is on there unless said otherwise.
      {128,
       3,
       cifar,
       half,
       false,
       true,
       {"improved-diffusion's CIFAR-10", 32, 0, 4, false, "cosine", 4000, true}},
      {128,
       3,
       small,
       {false, false, true, true},
       false,
       true,
       {"improved-diffusion's ImageNet-64", 64, 0, 4, false, "cosine", 4000, true}},
      {192,
       3,
       small,
       {false, false, true, true},
       false,
       true,
       {"improved-diffusion's class-conditional ImageNet-64", 64, 0, 4, false, "cosine", 4000,
        false}},
      {128,
       2,
       large,
       {false, false, false, false, true, false},
       false,
       false,
       {"improved-diffusion's LSUN bedroom", 256, 0, 1, false, "linear", 1000, false}},
  };
  return table;
}

std::vector<double> multipliers(const Unet& unet) {
  std::vector<double> result;
  for (const auto width : unet.widths)
    result.push_back(static_cast<double>(width) / static_cast<double>(unet.time_channels));
  return result;
}

}  // namespace

std::string unwrapped(const std::string& name) {
  static const std::set<std::string_view> wrappers{"_orig_mod", "_fsdp_wrapped_module",
                                                   "_checkpoint_wrapped_module", "_forward_module"};
  std::string result;
  for (std::size_t at = 0; at <= name.size();) {
    const std::size_t end = std::min(name.find('.', at), name.size());
    const std::string_view part(name.data() + at, end - at);
    // The last part is the tensor's own.
    if (end == name.size() || !wrappers.contains(part)) {
      if (at > 0 && !result.empty()) result += '.';
      result += part;
    }
    at = end + 1;
  }
  return result;
}

std::vector<std::string> network_prefixes(const std::vector<std::string>& names) {
  // Tensors that only the first layers of a known network have.
  constexpr std::array<std::string_view, 5> kMarks{
      "input_blocks.0.0.weight", "time_embed.0.weight", "x_embedder.proj.weight",
      "time_embedding.linear_1.weight", "conv_in.weight"};
  std::vector<std::string> prefixes;
  std::map<std::string, int> marks;
  for (const std::string& wrapped : names) {
    const std::string name = unwrapped(wrapped);
    for (const std::string_view mark : kMarks) {
      if (!name.ends_with(mark)) continue;
      const std::string prefix = name.substr(0, name.size() - mark.size());
      if (!prefix.empty() && prefix.back() != '.') continue;
      if (marks[prefix]++ == 0) prefixes.push_back(prefix);
    }
  }
  // One of the two marks of diffusers' network may be any network's (an autoencoder has conv_in).
  std::erase_if(prefixes, [&](const std::string& prefix) {
    return marks[prefix] < 2 &&
           std::any_of(
               names.begin(), names.end(),
               [&](const auto& name) { return unwrapped(name) == prefix + "conv_in.weight"; });
  });
  return prefixes;
}

Shapes behind(const Shapes& shapes, const std::string& prefix) {
  Shapes result;
  for (const auto& [wrapped, shape] : shapes) {
    const std::string name = unwrapped(wrapped);
    if (name.starts_with(prefix)) result.emplace_back(name.substr(prefix.size()), shape);
  }
  return result;
}

Recognised recognise(const Shapes& shapes) {
  std::vector<std::string> names;
  for (const auto& [name, shape] : shapes) names.push_back(name);
  const auto prefixes = network_prefixes(names);
  const bool latent = std::any_of(names.begin(), names.end(), [](const std::string& name) {
    return name.find("first_stage_model.") != std::string::npos;
  });
  if (latent) return {{}, "a latent diffusion model (first_stage_model.… is its autoencoder)"};
  Tensors tensors(behind(shapes, prefixes.empty() ? "" : prefixes.front()));
  if (const std::string other = other_network(tensors); !other.empty()) return {{}, other};
  if (tensors.has_below("input_blocks.") && tensors.has_below("time_embed.")) {
    Unet unet;
    if (read_unet(tensors, unet)) return {unet, describe(unet)};
    return {{}, "looks like guided-diffusion's UNet, but " + tensors.problem};
  }
  if (tensors.has_below("x_embedder.") && tensors.has_below("blocks.")) {
    Dit dit;
    if (read_dit(tensors, dit)) return {dit, describe(dit)};
    return {{}, "looks like DiT, but " + tensors.problem};
  }
  std::vector<std::string> first;
  for (const auto& [name, shape] : shapes)
    if (first.size() < 3) first.push_back(name);
  return {{},
          "no network known here: no input_blocks and time_embed (guided-diffusion), no "
          "x_embedder and blocks (DiT)" +
              (first.empty() ? std::string("; it has no tensors")
                             : "; its tensors are " + listed(first) +
                                   (shapes.size() > first.size() ? ", …" : "")),
          /*familiar=*/false};
}

UninferableOptions uninferable_options(const Unet& unet) {
  const std::vector<double> mult = multipliers(unet);
  for (const Known& known : known_networks()) {
    const auto wanted =
        known.residual_resampling ? Resampling::residual_blocks : Resampling::convolutions;
    if (known.channels == unet.time_channels && known.num_res_blocks == unet.num_res_blocks &&
        known.multipliers == mult && known.attention == unet.attention &&
        known.scale_shift == unet.scale_shift && wanted == unet.resampling) {
      return known.hidden;
    }
  }
  UninferableOptions hidden{"", 0, 0, 4, false, "linear", 1000, false};
  for (const Known& known : known_networks())  // networks of the same multipliers have one size
    if (known.multipliers == mult) hidden.image_size = known.hidden.image_size;
  return hidden;
}

std::vector<std::string> paper_networks() {
  std::vector<std::string> names;
  for (const Known& known : known_networks())
    if (!known.paper_name.empty()) names.push_back(known.paper_name);
  return names;
}

Unet paper_network(const std::string& name) {
  for (const Known& known : known_networks()) {
    if (name.empty() || known.paper_name != name) continue;
    constexpr std::int64_t kChannels = 3;
    Unet unet;
    unet.in_channels = kChannels;
    unet.out_channels = 2 * kChannels;
    unet.time_channels = known.channels;
    for (const double multiplier : known.multipliers)
      unet.widths.push_back(std::llround(multiplier * static_cast<double>(known.channels)));
    unet.num_res_blocks = known.num_res_blocks;
    unet.attention = known.attention;
    return unet;
  }
  throw ConfigError("no network of the paper is called \"" + name + "\"; expected one of " +
                    listed(paper_networks()));
}

std::int64_t usual_heads(const Dit& dit) {
  if (dit.hidden_size == 1152) return 16;
  return std::max<std::int64_t>(1, dit.hidden_size / 64);
}

}  // namespace dkdm::architecture
