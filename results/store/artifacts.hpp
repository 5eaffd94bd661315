// The artifact store as files: its folders and their manifests (written by
// core/record/artifact_store.hpp). Internal to results/.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/record/manifest.hpp"
#include "core/record/records.hpp"

namespace dkdm::results {

struct ArtifactFolder {
  std::string kind, key;  // <root>/artifacts/<kind>/<key>; the key of one set aside has a '.'
  std::string path;       // relative to the root; "" = not kept
  std::optional<record::Manifest> manifest;  // nothing = none that can be read

  bool set_aside() const { return key.find('.') != std::string::npos; }
  // Both of one that has a manifest: as it is recorded, and as a stage of a run, found rather than
  // made.
  record::ArtifactRecord record() const;
  record::StageRecord stage(const std::string& name) const;
};

// Every folder below <root>/artifacts, by path; none when there is no such folder.
std::vector<ArtifactFolder> list_artifacts(const std::filesystem::path& root);
std::optional<ArtifactFolder> find_artifact(const std::filesystem::path& root,
                                            const std::string& kind, const std::string& key);

// The manifest that an evaluation has of samples it drew and nobody kept: a folder without a path.
std::optional<ArtifactFolder> find_streamed(const std::filesystem::path& root,
                                            const ArtifactFolder& evaluation);

// What is wrong with its files, "" = nothing: missing, of another size, and, when `hash`, of
// another content.
std::string damage_of(const std::filesystem::path& root, const ArtifactFolder& artifact, bool hash);

// Copies the files of its manifest, and that, to `to`; whole or not at all. Throws StoreError.
void copy_artifact(const std::filesystem::path& from, const std::filesystem::path& to,
                   const ArtifactFolder& artifact);

// Bytes of all regular files below a folder.
std::int64_t folder_bytes(const std::filesystem::path& folder);

}  // namespace dkdm::results
