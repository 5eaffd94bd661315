// Weight files of the evaluator `classifier`: safetensors whose metadata say what the network is
// and how good it is; and those that come with dkdm.
#pragma once

#include <dlfcn.h>

#include <array>
#include <filesystem>
#include <map>
#include <string>

#include "classifier_network.hpp"
#include "dkdm/error.hpp"
#include "dkdm/files.hpp"
#include "dkdm/io.hpp"

namespace dkdm::classifier {

namespace fs = std::filesystem;

// A network in plugins/evaluators/classifiers/, made by the script there. Its weights are the same
// bytes everywhere, and so is the protocol id of its values.
struct Shipped {
  const char* name;
  std::int64_t channels, size, classes;
  const char* sha256;
};
inline constexpr std::array kShipped{
    Shipped{"fashion-mnist-16", 1, 16, 10,
            "9f90cc6bbe84837af6471e365ee3af25b8d3d673bff2fd02f2c258518449b8d4"}};

// A hold-out set counts as told apart when at least this much of what guessing the most frequent
// class leaves is gained, and by more than two standard errors of guessing.
constexpr double kLeastSkill = 0.1;

// What the metadata of a weight file hold.
struct About {
  ImageSpec spec{0, 0, 0};
  std::int64_t classes = 0, width = 0, features = 0;
  std::int64_t held_out = 0;  // images kept out of training
  double accuracy = 0;        // share of them that the network classifies rightly
  double chance = 0;          // share of their most frequent class
  std::string trained_on;     // fingerprint of the dataset
  std::string recipe;         // how it was trained, for a person

  bool tells_classes_apart() const {
    const double error = std::sqrt(chance * (1 - chance) / double(held_out));
    return accuracy - chance > 2 * error && accuracy - chance >= kLeastSkill * (1 - chance);
  }

  std::map<std::string, std::string> metadata() const {
    return {{"kind", "dkdm classifier"},
            {"channels", std::to_string(spec.channels)},
            {"image_height", std::to_string(spec.height)},
            {"image_width", std::to_string(spec.width)},
            {"classes", std::to_string(classes)},
            {"width", std::to_string(width)},
            {"features", std::to_string(features)},
            {"held_out", std::to_string(held_out)},
            {"accuracy", to_text(Value(accuracy))},
            {"chance", to_text(Value(chance))},
            {"trained_on", trained_on},
            {"recipe", recipe}};
  }

  // Throws DataError where `file` is no weight file of this evaluator.
  static About of(const std::map<std::string, std::string>& metadata, const fs::path& file) {
    const auto text = [&](const char* key) {
      const auto found = metadata.find(key);
      if (found == metadata.end())
        throw DataError(file.string(),
                        std::string("is not a weight file of the evaluator classifier: its "
                                    "metadata have no ") +
                            key);
      return found->second;
    };
    const auto number = [&](const char* key, std::int64_t low, std::int64_t high) {
      const std::string digits = text(key);
      const bool whole = !digits.empty() && digits.size() < 10 &&
                         digits.find_first_not_of("0123456789") == std::string::npos;
      const std::int64_t value = whole ? std::stoll(digits) : -1;
      if (value < low || value > high)
        throw DataError(file.string(), std::string("its ") + key + " is \"" + digits +
                                           "\", expected " + std::to_string(low) + " to " +
                                           std::to_string(high));
      return value;
    };
    const auto share = [&](const char* key) {
      const std::string digits = text(key);
      char* end = nullptr;
      const double value = std::strtod(digits.c_str(), &end);
      if (digits.empty() || *end != '\0' || !(value >= 0 && value <= 1))
        throw DataError(file.string(),
                        std::string("its ") + key + " is \"" + digits + "\", expected 0 to 1");
      return value;
    };
    About about;
    const bool square = metadata.contains("size");  // before images could be rectangular
    about.spec = {number("channels", 1, 3), number(square ? "size" : "image_height", 1, 4096),
                  number(square ? "size" : "image_width", 1, 4096)};
    about.classes = number("classes", 2, 1 << 16);
    about.width = number("width", 8, 512);
    about.features = number("features", 8, 2048);
    about.held_out = number("held_out", 1, 999'999'999);
    about.accuracy = share("accuracy");
    about.chance = share("chance");
    about.trained_on = text("trained_on");
    about.recipe = text("recipe");
    return about;
  }
};

inline void write_weights(const fs::path& file, const Network& network, const About& about) {
  io::save_tensors(file, state_of(network), about.metadata());
}

inline About read_about(const fs::path& file) {
  std::map<std::string, std::string> metadata;
  io::load_tensors(file, &metadata);
  return About::of(metadata, file);
}

struct Loaded {
  About about;
  std::shared_ptr<Network> network;  // in evaluation mode
};

// Throws DataError when the file's tensors are not exactly the network's.
inline Loaded read_weights(const fs::path& file) {
  std::map<std::string, std::string> metadata;
  const auto stored = io::load_tensors(file, &metadata);
  Loaded loaded{About::of(metadata, file), nullptr};
  const About& about = loaded.about;
  loaded.network =
      std::make_shared<Network>(about.spec, about.width, about.features, about.classes);
  const auto state = state_of(*loaded.network);
  for (const auto& [name, tensor] : state) {
    const auto found = stored.find(name);
    if (found == stored.end() || found->second.sizes() != tensor.sizes())
      throw DataError(file.string(), name + " is missing or of another shape than the network's");
    tensor.copy_(found->second);
  }
  if (stored.size() != state.size())
    throw DataError(file.string(), std::to_string(stored.size()) + " tensors; the network has " +
                                       std::to_string(state.size()));
  loaded.network->eval();
  return loaded;
}

// "fashion-mnist-16" of a file with that network's bytes; "" of any other.
inline std::string shipped_name(const std::string& sha256) {
  for (const auto& shipped : kShipped)
    if (sha256 == shipped.sha256) return shipped.name;
  return "";
}

inline std::string shipped_names() {
  std::string names;
  for (const auto& shipped : kShipped)
    names += (names.empty() ? "" : ", ") + std::string(shipped.name);
  return names;
}

// The file of a shipped network, beside this module. Its hash is checked. Throws DataError.
inline fs::path shipped_file(const Shipped& shipped) {
  Dl_info module{};
  ::dladdr(reinterpret_cast<const void*>(&shipped_names), &module);
  const fs::path file = fs::absolute(module.dli_fname).parent_path() / "classifiers" /
                        (std::string(shipped.name) + ".safetensors");
  if (!fs::exists(file))
    throw DataError(file.string(), "is missing: it comes with dkdm; build or install dkdm again");
  if (const auto sha256 = io::sha256_file(file); sha256 != shipped.sha256)
    throw DataError(file.string(), "is damaged or another file: its SHA-256 is " + sha256 +
                                       ", expected " + shipped.sha256 +
                                       "; build or install dkdm again");
  return file;
}

}  // namespace dkdm::classifier
