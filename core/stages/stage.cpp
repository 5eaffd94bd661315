#include "stages/stage.hpp"

#include <map>

namespace dkdm::stages {

const char* name_of(StageKind kind) {
  switch (kind) {
    case StageKind::train: return "train";
    case StageKind::pool: return "pool";
    case StageKind::synthetic: return "synthetic";
    case StageKind::sample: return "sample";
    case StageKind::evaluator: return "evaluator";
    case StageKind::evaluate: return "evaluate";
    case StageKind::snapshots: return "snapshots";
    case StageKind::select: return "select";
  }
  return "";
}

OpenDataset opened_once(const plugin::Registry& registry, Host& host) {
  auto open = std::make_shared<std::map<std::string, std::shared_ptr<Dataset>>>();
  return [&registry, &host, open](const plugin::PluginChoice& choice) {
    auto& dataset = (*open)[choice.name + '\n' + choice.params.canonical()];
    if (!dataset) dataset = registry.dataset(choice, host);
    return dataset;
  };
}

record::KeyParts first_parts(StageKind kind, int revision) {
  return {{"stage", name_of(kind)}, {"revision", std::to_string(revision)}};
}

}  // namespace dkdm::stages
