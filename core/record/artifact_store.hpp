// The outputs of stages, on disk: one folder a key, whole or absent.
//
//   <root>/artifacts/<stage>/<key>/   published, with manifest.json; never changed again
//   <root>/work/<stage>/<key>/        being made; survives a kill, so that the stage can continue
//
// An artifact is the files that its stage declares, with the content that they had when it was
// published: what a killed process or another program left in the folder is no part of it, and what
// is missing or altered later is found before it is used.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "record/manifest.hpp"
#include "record/work_lock.hpp"

namespace dkdm::record {

// Throws DataError naming file and remedy when one of `files` (empty = all) of the artifact that
// `folder` is, or lies in, has another content than its manifest says. A folder without a manifest
// (a model that was exported) has nothing to be compared with. A file is read once a process.
DKDM_API void check_contents(const std::filesystem::path& folder,
                             const std::vector<std::string>& files = {});

class DKDM_API ArtifactStore {
 public:
  // Creates the folders. Throws StoreError when they cannot be.
  explicit ArtifactStore(const std::filesystem::path& root);

  const std::filesystem::path& root() const { return root_; }
  std::filesystem::path path(const std::string& stage, const std::string& key) const;

  // The manifest of a whole artifact, nothing when absent. A folder without a manifest that can be
  // read, or whose files do not have the sizes of its manifest, is damaged: it is set aside
  // (renamed
  // *.damaged), which the log says once, and counts as absent. Contents: check_contents.
  std::optional<Manifest> find(const std::string& stage, const std::string& key) const;
  bool has_partial_work(const std::string& stage, const std::string& key) const;

  // Sets a published artifact aside under <key>.earlier-N, so that it can be made again.
  void retire(const std::string& stage, const std::string& key);

  // Calls `work` with the working folder and publishes the files that it declares together with
  // `manifest` (files, elapsed_s, steps and so on filled by `work`; bytes and sha256 by the store).
  // One process at a time makes a key: a second one waits and finds the artifact. If `work` throws,
  // the working folder stays for the next attempt. Throws StoreError before the work where its
  // result could not be published, Error for a declared file that is not there.
  Manifest make(const std::string& stage, const std::string& key, Manifest manifest,
                const std::function<void(const std::filesystem::path&, Manifest&)>& work,
                const Waiting& waiting);

 private:
  std::filesystem::path root_;
};

}  // namespace dkdm::record
