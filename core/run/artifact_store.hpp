// The outputs of stages, on disk: one folder a key, whole or absent.
//
//   <root>/artifacts/<stage>/<key>/   published, with manifest.json; never changed again
//   <root>/work/<stage>/<key>/        being made; survives a kill, so that the stage can continue
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "run/content_key.hpp"

namespace dkdm::run {

// What is known of a published artifact (manifest.json).
struct Manifest {
  std::string stage, key, plugin;
  KeyParts parts;
  double elapsed_s = 0;
  std::int64_t steps = 0;  // training steps or images
  std::int64_t teacher_evaluations = 0;
  std::optional<double> flops;  // see StageRecord
  std::int64_t peak_bytes = 0;
  std::int64_t bytes = 0;  // of its files
  std::string sha256;      // over its files' names and hashes
};

// The manifest of an output that was used and not kept, as a file of the artifact that used it; nothing when
// there is none that can be read.
DKDM_API void write_manifest(const std::filesystem::path& file, const Manifest& manifest);
DKDM_API std::optional<Manifest> read_manifest(const std::filesystem::path& file);

class DKDM_API ArtifactStore {
 public:
  // Creates the folders. Throws StoreError when they cannot be.
  explicit ArtifactStore(const std::filesystem::path& root);

  const std::filesystem::path& root() const { return root_; }
  std::filesystem::path path(const std::string& stage, const std::string& key) const;

  // The manifest of a whole artifact, nothing when absent. A folder whose files do not have the sizes
  // of its manifest is damaged: it is set aside (renamed *.damaged) and counts as absent.
  std::optional<Manifest> find(const std::string& stage, const std::string& key) const;
  bool has_partial_work(const std::string& stage, const std::string& key) const;

  // Sets a published artifact aside under <key>.earlier-N, so that it can be made again.
  void retire(const std::string& stage, const std::string& key);

  // Calls `work` with the working folder and publishes what it leaves there together with `manifest`
  // (elapsed_s, steps and so on filled by `work`; bytes and sha256 by the store). One process at a
  // time makes a key: a second one waits, calling `waiting` now and then, and finds the artifact.
  // If `work` throws, the working folder stays for the next attempt.
  Manifest make(const std::string& stage, const std::string& key, Manifest manifest,
                const std::function<void(const std::filesystem::path&, Manifest&)>& work,
                const std::function<void()>& waiting);

 private:
  std::filesystem::path root_;
};

}  // namespace dkdm::run
