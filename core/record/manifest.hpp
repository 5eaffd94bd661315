// What is known of a published artifact: its manifest.json. Says what determined it, what making it
// took and which files it is, with their content. Does not see LibTorch: the core writes it,
// results/ reads it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "dkdm/error.hpp"
#include "record/content_key.hpp"

namespace dkdm::record {

inline constexpr const char* kManifestFile = "manifest.json";
inline constexpr const char* kSamplesManifest =
    "samples.json";  // in an evaluation's folder: of samples not kept

struct ManifestFile {
  std::string name;  // relative to the folder, below it
  std::int64_t bytes = 0;
  std::string sha256;
};

struct Manifest {
  std::string stage, key, plugin;
  KeyParts parts;
  double elapsed_s = 0;
  std::int64_t steps = 0;  // training steps or images
  std::int64_t teacher_evaluations = 0;
  std::optional<double> flops, teacher_s, held_bytes, device_peak_bytes;  // see StageRecord
  std::string graphs;                                                     // likewise
  std::int64_t peak_bytes = 0;
  std::int64_t bytes = 0;  // of its files
  std::string sha256;      // over its files' names and hashes
  std::vector<ManifestFile>
      files;  // set when the artifact is published; none for an output that was not kept

  // Not in the file. What the stage made, relative to its folder: exactly these are published.
  // Empty where a plugin made it, which declares nothing: then all that it left, but for temporary
  // files.
  std::vector<std::string> outputs;
};

// Whole or not at all. Throws StoreError.
DKDM_API void write_manifest(const std::filesystem::path& file, const Manifest& manifest);

// Nothing where there is no such file, or where it is not a manifest: names that lead out of the
// folder are no manifest either. Throws DataError for a file that may not be read.
DKDM_API std::optional<Manifest> read_manifest(const std::filesystem::path& file);

// Whether a recorded path lies below the folder that it is relative to: no name of a manifest or a
// record leads out of the store.
bool stays_below(const std::string& name);

// What is wrong with the files of `manifest` in `folder`, "" = nothing: missing, of another size,
// and, when `hash`, of another content.
std::string damage_of(const std::filesystem::path& folder, const Manifest& manifest, bool hash);

}  // namespace dkdm::record
