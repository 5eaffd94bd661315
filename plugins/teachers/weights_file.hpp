// What the teachers that read other programs' files share.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "dkdm/announced.hpp"
#include "dkdm/files.hpp"
#include "dkdm/teacher.hpp"

namespace dkdm::teachers {

// The parameter `path` of teacher `name`; throws ConfigError when it is empty, DataError when
// nothing is there. `what` says what should be.
inline std::filesystem::path given_path(const Params& params, const std::string& name,
                                        const std::string& what) {
  const std::filesystem::path path = params.text("path");
  if (path.empty()) {
    throw ConfigError("teacher " + name + ": path is not set; give " + what);
  }
  if (!std::filesystem::exists(path)) {
    throw DataError(path.string(), "no such file; the teacher " + name + " needs " + what);
  }
  return path;
}

// Announces that nothing is at the parameter `path`, or that it is not set: true. The words are
// those of given_path.
inline bool announce_absence(const Params& params, const std::string& name, const std::string& what,
                             Announced& announced) {
  const std::filesystem::path path = params.text("path");
  if (!path.empty() && std::filesystem::exists(path)) return false;
  announced.absent.push_back({path, path.empty()
                                        ? "path is not set; give " + what
                                        : "no such file; the teacher " + name + " needs " + what});
  return true;
}

// `table` with what a teacher from elsewhere may say of its files; the host holds it against them
// (dkdm/weights_files.hpp).
inline ParamTable with_origin(ParamTable table) {
  table.push_back(
      text("sha256", "",
           "SHA-256 of its weights, as sha256sum prints it (of shards: of what it prints "
           "of them); other weights are refused (empty = any, and recorded)")
          .no_effect_on_result());
  table.push_back(text("trained_on", "",
                       "dataset that the network was trained on, by its plugin's name: allows one "
                       "that is not the experiment's (empty = the experiment's)")
                      .no_effect_on_result());
  return table;
}

// The files' bytes and all parameters that determine results, but where the files lie.
inline std::string fingerprint(const Params& params,
                               const std::vector<std::filesystem::path>& files) {
  std::string all;
  for (const auto& file : files) all += io::sha256_file(file) + "\n";
  for (const auto& [name, value] : params.determining())
    if (name != "path") all += name + " = " + to_text(value) + "\n";
  return io::sha256(all);
}

// As a teacher is used: evaluation mode, no gradient.
inline TrainedModel frozen(std::shared_ptr<Denoiser> network, const DiffusionConfig& diffusion,
                           const SampleShape& shape) {
  network->eval();
  for (auto& parameter : network->parameters()) parameter.set_requires_grad(false);
  return {std::move(network), diffusion, shape};
}

}  // namespace dkdm::teachers
