// One stage of a plan: a piece of work whose output is named by all that determines it.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "dkdm/announced.hpp"
#include "dkdm/dataset.hpp"
#include "dkdm/host.hpp"
#include "plugin/registry.hpp"
#include "record/artifact_store.hpp"
#include "record/records.hpp"

namespace dkdm::stages {

enum class StageKind { train, pool, synthetic, sample, evaluator, evaluate, snapshots, select };

// The kind's folder in the store, and its name in the parts of keys.
DKDM_API const char* name_of(StageKind kind);

// Opens datasets, each once for all that ask.
using OpenDataset = std::function<std::shared_ptr<Dataset>(const plugin::PluginChoice&)>;
// References outlive it.
DKDM_API OpenDataset opened_once(const plugin::Registry& registry, Host& host);

// What every stage of a plan shares. References outlive the plan.
struct StageContext {
  const plugin::Registry& registry;
  Host& host;
  OpenDataset dataset;
  record::Recorder* recorder = nullptr;  // null where stages are planned, not made
  // Of a rehearsal (run/rehearsal.hpp), empty elsewhere: how a teacher is loaded, and what takes
  // the place of a dataset whose files are absent, under the fingerprint that it is given.
  std::function<TrainedModel(const plugin::PluginChoice&)> load_teacher{};
  std::function<std::shared_ptr<Dataset>(const Announced&, const std::string& fingerprint)>
      absent_images{};
};

// What a stage takes of the device that computes, in bytes, by what it is for: 0 = nothing or not
// estimated, NaN = unknown.
struct MemoryParts {
  double weights = 0;  // of the network that is trained or drawn from
  double gradients = 0;
  double moments = 0;  // the optimiser's
  double ema = 0;
  double teacher = 0;    // its weights
  double batch_set = 0;  // what the method keeps
  double batch = 0;      // tensors of a batch's shape
  double activations = 0;

  // Of the networks, whatever the batch.
  double networks() const { return weights + gradients + moments + ema + teacher; }
  double total() const { return networks() + batch_set + batch + activations; }
};

// What a stage takes, in bytes, as estimated before it is made (run/footprint.hpp): NaN = unknown.
struct Footprint {
  double disk = 0;     // that its output keeps
  double working = 0;  // of disk while it runs, beside that: checkpoints, parts of a set
  MemoryParts parts{};
  std::string remedy{};  // which settings take less memory, for a person

  double memory() const { return parts.total(); }
};

struct Stage {
  StageKind kind = StageKind::train;
  std::string label;       // for a person: "train dynamic"
  std::string plugin;      // whose work it is, "" = the core's
  record::KeyParts parts;  // all that determines its output
  std::string key;         // their content key
  double estimated_s = 0;  // NaN = unknown
  Footprint footprint;
  // What files are absent of those that it depends on ("dataset cifar10"): they would say what
  // determines it, so its key is none, unlike all others, and it cannot be made.
  std::vector<std::string> needs;
  bool streamed = false;  // what it gives goes straight into the stage that reads it: no folder
  std::vector<std::size_t> inputs;  // earlier stages of the plan
  // Reads the folders of its inputs, fills its own, and says in the manifest what it made.
  std::function<void(StageContext&, const std::filesystem::path&, record::Manifest&)> work;

  std::filesystem::path folder(const record::ArtifactStore& store) const {
    return store.path(name_of(kind), key);
  }
  std::optional<record::Manifest> find(const record::ArtifactStore& store) const {
    return store.find(name_of(kind), key);
  }
};

// The first parts of a stage's key. `revision` is raised with every change of the core that gives
// other bits for the same parts (a sampler's, a loss's, the trainer's arithmetic): what was made
// before is then made again. Plugins have versions for the same purpose.
record::KeyParts first_parts(StageKind kind, int revision);

}  // namespace dkdm::stages
