// Is the database sound, and do it and the artifact store agree?
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace dkdm::results {

struct CheckOptions {
  bool repair = false;
  bool hash = false;  // read every artifact and compare its content, not its size alone
};

struct Finding {
  std::string what, remedy;
  bool repaired = false;
};

struct CheckReport {
  std::vector<std::string> checks;  // what was looked at, with counts
  std::vector<Finding> findings;

  bool sound() const;  // nothing is left that needs a remedy
};

// Looks for: damaged pages and indexes, broken references, values that do not count as they should,
// attempts whose process is gone, artifacts that are missing or changed on disk, whole artifacts
// that are not on record, and finished evaluations whose run is recorded as unfinished (their
// process ended, or the disk was full, between making and recording). `root` is the artifact
// store's. With repair the last are recorded, indexes are made anew, attempts are marked crashed
// and changed artifacts set aside, so that the next run makes them again; a missing artifact stays
// missing. Throws StoreError when the file cannot be read at all.
CheckReport check_database(const std::filesystem::path& file, const std::filesystem::path& root,
                           const CheckOptions& options = {});

}  // namespace dkdm::results
