// The rules of each published evaluator, what it computes, and where its weights are looked for.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "dkdm/announced.hpp"
#include "inception_weights.hpp"
#include "metrics/preprocess.hpp"

namespace dkdm::evaluators {

inline const std::vector<std::string>& protocols() {
  static const std::vector<std::string> names{"adm", "pytorch-fid", "torch-fidelity", "clean"};
  return names;
}

// What the evaluator of that name computes of Inception's features. Others have no such value, so
// none passes for theirs: pytorch-fid and clean-fid know FID alone, and torch-fidelity's precision
// and recall are of VGG16's features.
inline std::vector<std::string> published_metrics(const std::string& protocol) {
  if (protocol == "adm") return {"fid", "sfid", "is", "precision", "recall"};
  if (protocol == "torch-fidelity") return {"fid", "is"};
  return {"fid"};
}

// `asked`, or all of the protocol's where it is empty; fid_inf is made of any protocol's FID.
// Throws ConfigError for what the protocol does not have.
inline std::vector<std::string> metrics_under(const std::string& protocol,
                                              const std::vector<std::string>& asked) {
  auto known = published_metrics(protocol);
  if (asked.empty()) return known;
  known.emplace_back("fid_inf");
  const auto all = published_metrics("adm");
  for (const auto& name : asked) {
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    std::string list;
    for (const auto& metric : known) list += (list.empty() ? "" : ", ") + metric;
    const bool elsewhere = std::find(all.begin(), all.end(), name) != all.end();
    const bool vgg = elsewhere && protocol == "torch-fidelity" && name != "sfid";
    throw ConfigError("metrics", "protocol " + protocol + " has no \"" + name + "\"; it has " +
                                     list +
                                     (vgg ? " (torch-fidelity's own is of VGG16's features)" : "") +
                                     (elsewhere ? "; protocol = \"adm\" has it" : ""));
  }
  return asked;
}

inline metrics::Preprocessing preprocessing(const std::string& protocol) {
  if (protocol == "pytorch-fid") return metrics::Preprocessing::pytorch_fid;
  if (protocol == "torch-fidelity") return metrics::Preprocessing::torch_fidelity;
  return protocol == "clean" ? metrics::Preprocessing::clean : metrics::Preprocessing::adm;
}

// `given`; else $DKDM_INCEPTION_WEIGHTS; else one of the known files in weights/ below the store's
// root ($DKDM_HOME, .dkdm where it is not set). Where none is there, `absent` says where it was
// looked for, and what to put there.
struct InceptionFile {
  std::filesystem::path path;
  Announced::Absent absent;
};
inline InceptionFile look_for_inception_weights(const std::string& given) {
  namespace fs = std::filesystem;
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value ? value : "");
  };
  const std::string named = given.empty() ? variable("DKDM_INCEPTION_WEIGHTS") : given;
  if (!named.empty() && fs::exists(named)) return {named, {}};
  if (!named.empty())
    return {"",
            {named, std::string("no such file; the Inception weights are ") + kWhereWeightsAre}};
  const std::string home = variable("DKDM_HOME");
  const fs::path folder =
      fs::absolute(home.empty() ? ".dkdm" : home).lexically_normal() / "weights";
  for (const char* name :
       {"pt_inception-2015-12-05-6726825d.pth", "weights-inception-2015-12-05-6726825d.pth",
        "classify_image_graph_def.pb"})
    if (fs::exists(folder / name)) return {folder / name, {}};
  return {"",
          {folder, "none found; put " + std::string(kWhereWeightsAre) + " into " + folder.string() +
                       ", or name the file: --set weights=FILE, [evaluator] weights, or "
                       "DKDM_INCEPTION_WEIGHTS"}};
}

// Throws DataError that says what to put where.
inline std::filesystem::path find_inception_weights(const std::string& given) {
  const auto [path, absent] = look_for_inception_weights(given);
  if (!path.empty()) return path;
  throw DataError(absent.path.string(), absent.remedy);
}

}  // namespace dkdm::evaluators
