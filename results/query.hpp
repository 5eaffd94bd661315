// SQL from a person's hand, strictly read-only.
#pragma once

#include <filesystem>
#include <string>

#include "results/table.hpp"

namespace dkdm::results {

// Runs one SELECT (or EXPLAIN, or a PRAGMA that only describes tables) on the database. Anything that
// could change a file, this one or another, is refused. Throws ConfigError for wrong SQL, with
// SQLite's message and the tables and views there are; StoreError when the file cannot be read.
Table query(const std::filesystem::path& file, const std::string& sql);

}  // namespace dkdm::results
