// What the teachers that read other programs' files share.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

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

// The files' bytes and all parameters but where the files lie.
inline std::string fingerprint(const Params& params,
                               const std::vector<std::filesystem::path>& files) {
  std::string all;
  for (const auto& file : files) all += io::sha256_file(file) + "\n";
  for (const auto& [name, value] : params.values())
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
