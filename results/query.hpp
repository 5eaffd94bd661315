// SQL from a person's hand, strictly read-only.
#pragma once

#include <filesystem>
#include <string>

#include "results/table.hpp"

namespace dkdm::results {

// Runs one SELECT (or EXPLAIN, or a PRAGMA that only describes tables) on the database. Anything that
// could change a file, this one or another, is refused. A real number is rounded where a person reads it
// (text, markdown) and whole in csv and json. Throws ConfigError for wrong SQL, with SQLite's message and
// the nearest table, view or column; StoreError when the file cannot be read.
Table query(const std::filesystem::path& file, const std::string& sql);

}  // namespace dkdm::results
