// Where a diffusers folder keeps its weights: plain or of a variant, whole or in shards, of the
// moving average or not.
#pragma once

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <regex>
#include <string>
#include <vector>

#include "dkdm/checkpoint.hpp"
#include "dkdm/documents.hpp"
#include "dkdm/io.hpp"
#include "dkdm/json.hpp"

namespace dkdm::diffusers {

struct WeightFiles {
  std::vector<std::filesystem::path> files;  // the weights, or the shards of `index`
  std::filesystem::path index;               // "" = not in shards
  std::string variant;                       // "fp16", "non_ema", …; "" = plain
  bool others = false;                       // other variants stand beside it

  // What identifies them.
  std::vector<std::filesystem::path> all() const {
    auto list = files;
    if (!index.empty()) list.push_back(index);
    return list;
  }
};

namespace weight_files {

namespace fs = std::filesystem;

// The shards that an index names, which lie beside it.
inline std::vector<fs::path> shards_of(const fs::path& index) {
  std::vector<fs::path> shards;
  try {
    const auto json = nlohmann::json::parse(io::read_document(index));
    for (const auto& [tensor, shard] : json.at("weight_map").items()) {
      const std::string name = shard.get<std::string>();
      if (name.empty() || name != fs::path(name).filename().string())
        throw DataError(index.string(), "the shard of '" + tensor + "' is no file name");
      if (std::find(shards.begin(), shards.end(), index.parent_path() / name) == shards.end())
        shards.push_back(index.parent_path() / name);
    }
  } catch (const nlohmann::json::exception&) {
    throw DataError(index.string(),
                    "is not an index of shards: no JSON with a weight_map of file names");
  }
  for (const auto& shard : shards)
    if (!fs::exists(shard))
      throw DataError(index.string(), "names the shard " + shard.filename().string() +
                                          ", which is not there: the download is not complete");
  if (shards.empty()) throw DataError(index.string(), "names no shards");
  return shards;
}

inline std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const auto& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

// Every set of weights of `folder` by variant; safetensors before .bin, one file before shards.
inline std::map<std::string, WeightFiles> sets_of(const fs::path& folder) {
  static const std::regex whole(
      R"(diffusion_pytorch_model(?:\.([A-Za-z0-9_-]+))?\.(safetensors|bin))");
  static const std::regex index(
      R"(diffusion_pytorch_model\.(safetensors|bin)\.index(?:\.([A-Za-z0-9_-]+))?\.json)");
  std::map<std::string, std::map<int, fs::path>> found;  // variant -> by preference
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    std::smatch match;
    // A shard's name looks like that of a variant: "…-00001-of-00002".
    if (std::regex_match(name, match, whole) && match[1].str().find("-of-") == std::string::npos)
      found[match[1]][match[2] == "safetensors" ? 0 : 2] = entry.path();
    else if (std::regex_match(name, match, index))
      found[match[2]][match[1] == "safetensors" ? 1 : 3] = entry.path();
  }
  std::map<std::string, WeightFiles> sets;
  for (const auto& [variant, files] : found) {
    WeightFiles& set = sets[variant];
    set.variant = variant;
    set.others = found.size() > 1;
    const auto& [rank, file] = *files.begin();
    if (rank % 2 == 0) set.files = {file};
    else set.index = file;
  }
  return sets;
}

}  // namespace weight_files

// The weights in `folder` of `variant`; "" takes the plain ones, else the only variant there is.
// Throws DataError that names what is there.
inline WeightFiles find_weights(const std::filesystem::path& folder, const std::string& variant) {
  auto sets = weight_files::sets_of(folder);
  std::vector<std::string> variants;
  for (const auto& [name, set] : sets) variants.push_back(name.empty() ? "(plain)" : name);
  auto chosen = sets.find(variant);
  if (chosen == sets.end() && variant.empty() && sets.size() == 1) chosen = sets.begin();
  if (chosen == sets.end() && !sets.empty()) {
    throw DataError(
        folder.string(),
        (variant.empty() ? std::string("has weights of several variants and no plain ones")
                         : "has no weights of the variant \"" + variant + '"') +
            "; set variant to one of " + weight_files::joined(variants));
  }
  if (chosen == sets.end()) {
    std::vector<std::string> names;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(folder, error))
      names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    if (names.size() > 10) names.resize(10);
    throw DataError(
        folder.string(),
        "has no weights; looked for diffusion_pytorch_model.safetensors and .bin, their "
        "variants (.fp16.safetensors) and shards (.safetensors.index.json); it holds " +
            weight_files::joined(names));
  }
  WeightFiles files = chosen->second;
  if (!files.index.empty()) files.files = weight_files::shards_of(files.index);
  return files;
}

// The tensors of all files under the network's own names, and which weights they are.
inline io::ChosenNetwork read_weights(const WeightFiles& files, io::WeightsKind preferred) {
  io::ChosenNetwork all;
  for (const auto& file : files.files) {
    const auto checkpoint = io::read_checkpoint(file);
    if (files.index.empty()) {
      all = io::choose_network(checkpoint, "", file, preferred);
    } else {
      // A shard is no network by itself.
      for (const auto& [name, tensor] : io::select_state(checkpoint, ".", file).tensors) {
        for (const auto& [other, _] : all.tensors)
          if (other == name)
            throw DataError(file.string(), "holds '" + name + "', which another shard holds too");
        all.tensors.emplace_back(name, tensor);
      }
    }
    io::check_finite({"", all.tensors}, file);
  }
  return all;
}

}  // namespace dkdm::diffusers
