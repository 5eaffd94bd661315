// What samples are measured against, with its provenance: prepared once, kept as an artifact,
// written as a file that ADM's evaluator reads too.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "dkdm/evaluator.hpp"
#include "plugin/registry.hpp"
#include "record/artifact_store.hpp"

namespace dkdm::stages {

struct Reference {
  std::string recipe;                               // how the images came about, for a person
  std::shared_ptr<Dataset> images;                  // may be null where there are statistics
  std::optional<Evaluator::Statistics> statistics;  // used instead of being computed

  std::string fingerprint() const;
};

// "cifar10 1 split=\"train\"": what the images of a dataset plugin are.
DKDM_API std::string recipe_of(const plugin::PluginChoice& dataset);

// Of an artifact's folder: its provenance as JSON.
inline constexpr const char* kReferenceText = "reference.json";

// Named texts for a person, in order.
using Provenance = std::vector<std::pair<std::string, std::string>>;

// Fills `folder` with what the evaluator prepares, and with its provenance; the evaluator is open
// afterwards.
DKDM_API void fill_reference(Evaluator& evaluator, const plugin::PluginChoice& choice,
                             const Reference& reference, const std::filesystem::path& folder);

// The artifact of `reference` under `choice`, made where it is missing; the evaluator is open on
// it. Returns its key: that of a run's stage "evaluator" for the same evaluator and images.
DKDM_API std::string prepare_reference(Evaluator& evaluator, const plugin::PluginChoice& choice,
                                       const Reference& reference, record::ArtifactStore& store,
                                       Host& host);

// An npz that may hold statistics (ADM's layout, or pytorch-fid's without mu_s), and, where this
// suite wrote it, their provenance. Images are left to the caller. Throws DataError for what is
// damaged.
DKDM_API Reference read_reference(const std::filesystem::path& file);

// Statistics of the open evaluator in ADM's layout, with the provenance of `folder`.
DKDM_API void write_reference(const Evaluator& evaluator, const std::filesystem::path& folder,
                              const std::filesystem::path& file);

// Of a file or of an artifact's folder. Throws DataError.
DKDM_API Provenance file_provenance(const std::filesystem::path& file);
DKDM_API Provenance folder_provenance(const std::filesystem::path& folder);

}  // namespace dkdm::stages
