// Databases of several machines made one, with their artifacts; and a part of one made a file of
// its own.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace dkdm::results {

struct MergeReport {
  std::vector<std::pair<std::string, std::int64_t>> added;  // table (and "artifact folders"), count
  std::vector<std::string> conflicts;  // what differs in both; what was here was kept
  std::vector<std::string> damaged;    // artifacts that are broken there, and were not copied

  std::int64_t total() const;
};

// Adds to `file` what `source` has and it has not. Runs are told apart by their uid, so merging
// twice adds nothing. `source` is a database, a folder that holds results.sqlite, or an archive of
// `export_run`; it is not changed, and may be of an earlier schema. Artifacts that its runs name
// are copied from beside it to `root` where they are absent there. Nothing is overwritten: an
// artifact, curve or stage that differs from ours of the same key is a conflict, and ours stays.
// That is no failure: two machines that train the same teacher differ in its last bits, and both
// runs with their values are on record afterwards. Throws DataError where there is no source, else
// StoreError.
MergeReport merge_database(const std::filesystem::path& file, const std::filesystem::path& root,
                           const std::filesystem::path& source);

// Writes run `run` of `file` alone as a database `target`, which must not exist: with its
// experiment, attempts, environments, stages, metrics, curves. Throws StoreError.
void extract_run(const std::filesystem::path& file, std::int64_t run,
                 const std::filesystem::path& target);

}  // namespace dkdm::results
