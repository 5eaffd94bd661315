// The rules of each published evaluator, and where its weights are looked for.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "inception_weights.hpp"
#include "metrics/preprocess.hpp"

namespace dkdm::evaluators {

inline const std::vector<std::string>& protocols() {
  static const std::vector<std::string> names{"adm", "pytorch-fid", "torch-fidelity", "clean"};
  return names;
}

inline metrics::Preprocessing preprocessing(const std::string& protocol) {
  if (protocol == "pytorch-fid") return metrics::Preprocessing::pytorch_fid;
  if (protocol == "torch-fidelity") return metrics::Preprocessing::torch_fidelity;
  return protocol == "clean" ? metrics::Preprocessing::clean : metrics::Preprocessing::adm;
}

// `given`; else $DKDM_INCEPTION_WEIGHTS; else one of the known files in weights/ below the store's
// root ($DKDM_HOME, .dkdm where it is not set). Throws DataError that says what to put where.
inline std::filesystem::path find_inception_weights(const std::string& given) {
  namespace fs = std::filesystem;
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value ? value : "");
  };
  const std::string named = given.empty() ? variable("DKDM_INCEPTION_WEIGHTS") : given;
  if (!named.empty() && fs::exists(named)) return named;
  if (!named.empty())
    throw DataError(named,
                    std::string("no such file; the Inception weights are ") + kWhereWeightsAre);
  const std::string home = variable("DKDM_HOME");
  const fs::path folder =
      fs::absolute(home.empty() ? ".dkdm" : home).lexically_normal() / "weights";
  for (const char* name :
       {"pt_inception-2015-12-05-6726825d.pth", "weights-inception-2015-12-05-6726825d.pth",
        "classify_image_graph_def.pb"})
    if (fs::exists(folder / name)) return folder / name;
  throw DataError("Inception weights",
                  "none found; put " + std::string(kWhereWeightsAre) + " into " + folder.string() +
                      ", or name the file: --set weights=FILE, [evaluator] weights, or "
                      "DKDM_INCEPTION_WEIGHTS");
}

}  // namespace dkdm::evaluators
