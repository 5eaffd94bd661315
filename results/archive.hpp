// Tar archives of a folder (libarchive). Internal to results/.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace dkdm::results {

struct ArchiveEntry {
  std::string name;            // in the archive
  std::filesystem::path file;  // where its bytes are; a regular file
};

// Writes the entries in their order to `target` (POSIX tar), by way of `target`.part. Throws
// StoreError.
void write_archive(const std::filesystem::path& target, const std::vector<ArchiveEntry>& entries);

// Unpacks regular files and folders into `folder`, which exists. Anything that would lie outside it, a
// link or a device is refused. Throws StoreError that names the archive and the entry.
void unpack_archive(const std::filesystem::path& archive, const std::filesystem::path& folder);

}  // namespace dkdm::results
