// What a database file may hold before this program reads or writes it: a file may come from
// anybody, and nothing in it is executed (docs/trust.md). Internal to results/.
#pragma once

#include <cstdint>
#include <filesystem>

#include "results/store/database.hpp"

namespace dkdm::results {

// To be called on every connection before its first statement: functions and virtual tables that
// could do more than compute are out of the file's reach, its pages are checked when read, texts
// are at most 64 MiB, and no extension is loaded.
void harden(SQLite::Database& db);

// 0 when the file has no tables yet. Throws StoreError when it is another program's or of a newer
// dkdm.
std::int64_t checked_version(SQLite::Database& db, const std::filesystem::path& file);

// Throws StoreError unless each table of schema `version` is an ordinary table with the columns of
// that version, none of them computed. Others are not looked at.
void require_tables(SQLite::Database& db, std::int64_t version, const std::filesystem::path& file);

// Whether views and triggers of the present schema are there as it has them. Throws StoreError for
// a trigger that is not the schema's, and for an object whose text does not say what it is: SQLite
// would run either.
bool has_own_views(SQLite::Database& db, std::int64_t version, const std::filesystem::path& file);

// Makes the views and triggers of the present schema anew. Inside a writing transaction.
void restore_views(SQLite::Database& db);

}  // namespace dkdm::results
