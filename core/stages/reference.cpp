#include "stages/reference.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "dkdm/files.hpp"
#include "record/clock.hpp"
#include "stages/stages.hpp"

namespace dkdm::stages {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

Json provenance(const Evaluator& evaluator, const plugin::PluginChoice& choice,
                const Reference& reference) {
  Json json = {{"evaluator", choice.name},
               {"evaluator_version", choice.version},
               {"protocol", evaluator.protocol()},
               {"recipe", reference.recipe},
               {"fingerprint", evaluator.reference_fingerprint()},
               {"images", evaluator.reference_count()},
               {"statistics", reference.statistics ? "carried over from a file" : "computed"}};
  if (reference.images) {
    json["channels"] = reference.images->spec().channels;
    json["height"] = reference.images->spec().height;
    json["width"] = reference.images->spec().width;
  }
  return json;
}

}  // namespace

std::string Reference::fingerprint() const {
  return statistics ? statistics->fingerprint : images->fingerprint();
}

std::string recipe_of(const plugin::PluginChoice& dataset) {
  std::string recipe = dataset.name + " " + dataset.version;
  for (const auto& [name, value] : dataset.params.values())
    recipe += " " + name + "=" + to_text(value);
  return recipe;
}

void fill_reference(Evaluator& evaluator, const plugin::PluginChoice& choice,
                    const Reference& reference, const fs::path& folder) {
  if (reference.statistics)
    evaluator.prepare_from_statistics(*reference.statistics, reference.images.get(), folder);
  else evaluator.prepare(*reference.images, record::derive_seed(0, "evaluator"), folder);
  evaluator.open(folder);
  io::write_text(folder / kReferenceText, provenance(evaluator, choice, reference).dump(2) + "\n");
}

std::string prepare_reference(Evaluator& evaluator, const plugin::PluginChoice& choice,
                              const Reference& reference, record::ArtifactStore& store,
                              Host& host) {
  record::Manifest manifest;
  manifest.plugin = choice.name;
  manifest.parts = evaluator_parts(choice, evaluator.identity(), reference.fingerprint());
  const std::string kind = name_of(StageKind::evaluator), key = record::content_key(manifest.parts);
  const auto work = [&](const fs::path& folder, record::Manifest& filled) {
    const auto started = record::Clock::now();
    fill_reference(evaluator, choice, reference, folder);
    filled.elapsed_s = record::seconds_since(started);
  };
  const auto waiting = [&](const std::string& holder) {
    host.progress("waiting for " + holder, 0, 1);
  };
  if (!store.find(kind, key)) store.make(kind, key, manifest, work, waiting);
  record::check_contents(store.path(kind, key));
  evaluator.open(store.path(kind, key));
  return key;
}

}  // namespace dkdm::stages
