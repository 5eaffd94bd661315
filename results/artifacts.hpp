// The artifact store as files: its folders and their manifests (written by core/run/artifact_store).
// Internal to results/.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/run/records.hpp"

namespace dkdm::results {

struct ArtifactFile {
  std::string name;  // relative to the folder, below it
  std::int64_t bytes = 0;
  std::string sha256;
};

struct ArtifactFolder {
  std::string kind, key;  // <root>/artifacts/<kind>/<key>; the key of one set aside has a '.'
  std::string path;       // relative to the root
  // From manifest.json; whole = there is one that can be read.
  bool whole = false;
  std::string plugin, sha256;
  std::int64_t bytes = 0, steps = 0, teacher_evaluations = 0, peak_bytes = 0;
  double elapsed_s = 0;
  std::optional<double> flops;
  std::vector<std::pair<std::string, std::string>> determined_by;
  std::vector<ArtifactFile> files;

  bool set_aside() const { return key.find('.') != std::string::npos; }
  run::ArtifactRecord record() const { return {key, kind, path, sha256, bytes}; }
  // As a stage of a run, found rather than made.
  run::StageRecord stage(const std::string& name) const;
};

// Whether a recorded path lies below the folder that it is relative to: no name of a manifest or a record
// leads out of the store.
bool stays_below(const std::string& name);

// Every folder below <root>/artifacts, by path; none when there is no such folder.
std::vector<ArtifactFolder> list_artifacts(const std::filesystem::path& root);
std::optional<ArtifactFolder> find_artifact(const std::filesystem::path& root,
                                            const std::string& kind, const std::string& key);

// The manifest that an evaluation has of samples it drew and nobody kept: a folder without a path.
std::optional<ArtifactFolder> find_streamed(const std::filesystem::path& root,
                                            const ArtifactFolder& evaluation);

// What is wrong with its files, "" = nothing: missing, of another size, and, when `hash`, of another
// content.
std::string damage_of(const std::filesystem::path& root, const ArtifactFolder& artifact, bool hash);

// Copies the files of its manifest, and that, to `to`; whole or not at all. Throws StoreError.
void copy_artifact(const std::filesystem::path& from, const std::filesystem::path& to,
                   const ArtifactFolder& artifact);

// Bytes of all regular files below a folder.
std::int64_t folder_bytes(const std::filesystem::path& folder);

// metrics.json of an evaluation; nothing when there is none that can be read.
std::vector<run::MetricRecord> read_metrics(const std::filesystem::path& root,
                                            const ArtifactFolder& artifact);

}  // namespace dkdm::results
