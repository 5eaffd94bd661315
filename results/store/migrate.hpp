// Brings a database of an earlier schema to this one.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "results/store/database.hpp"
#include "results/store/migration.hpp"

namespace dkdm::results {

// In one transaction that keeps other writers out, so of several processes that find an older file
// one migrates it and the others find it done. The file as it was is copied beside it first
// (FILE.vN-backup, or FILE.vN-backup-2 … when there is one). The result has exactly the tables,
// indexes and views of a new file. Nothing is done, and nothing returned, when the schema is the
// present one. Throws SQLite::Exception or StoreError; the file is then as it was.
std::optional<Migration> migrate(SQLite::Database& db, const std::filesystem::path& file);

}  // namespace dkdm::results
