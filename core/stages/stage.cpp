#include "stages/stage.hpp"

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
  }
  return "";
}

record::KeyParts first_parts(StageKind kind, int revision) {
  return {{"stage", name_of(kind)}, {"revision", std::to_string(revision)}};
}

}  // namespace dkdm::stages
