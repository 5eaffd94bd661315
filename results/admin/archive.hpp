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

// Writes the entries in their order to `target` (POSIX tar), whole or not at all. Throws
// StoreError, DataError.
void write_archive(const std::filesystem::path& target, const std::vector<ArchiveEntry>& entries);

// Unpacks an archive of `export_run` into `folder`, which exists: results.sqlite, config.toml and
// what lies below artifacts/KIND/KEY, each once. Anything else is refused: other names, links,
// devices, what would lie outside, more bytes than the archive has, compression. Throws StoreError
// that names the archive and the entry.
void unpack_archive(const std::filesystem::path& archive, const std::filesystem::path& folder);

}  // namespace dkdm::results
