// Artifacts that no run names.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace dkdm::results {

struct Garbage {
  std::string path;  // relative to the root of the artifact store
  std::int64_t bytes = 0;
};

// Folders of the store that no stage of a run on record names: those of removed runs, and those set
// aside by --force or as damaged. Throws StoreError, also while a run is being written (its
// artifacts come before its record).
std::vector<Garbage> find_garbage(const std::filesystem::path& file,
                                  const std::filesystem::path& root);

// Deletes the folders of `garbage` that are garbage still, with their records. Returns the bytes
// freed.
std::int64_t delete_garbage(const std::filesystem::path& file, const std::filesystem::path& root,
                            const std::vector<Garbage>& garbage);

}  // namespace dkdm::results
