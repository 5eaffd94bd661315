// What kind of file the database is and how much it holds.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace dkdm::results {

struct StoreInfo {
  std::int64_t schema_version = 0;
  std::string journal;     // "wal", or "delete" where the file system has no shared memory
  std::int64_t bytes = 0;  // of the file and the log beside it
  std::vector<std::pair<std::string, std::int64_t>> rows;  // table, rows; by name
};

// Throws StoreError when the file cannot be read or is not ours.
StoreInfo store_info(const std::filesystem::path& file);

}  // namespace dkdm::results
