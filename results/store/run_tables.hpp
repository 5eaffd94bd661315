// Fixed statements as tables. Internal to results/.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "results/store/database.hpp"
#include "results/text/table.hpp"

namespace dkdm::results {

// Every row of a statement whose parameters are bound. Columns named "started", "elapsed", "memory"
// and the like are shown as times and sizes.
Table table_of(SQLite::Statement& statement, const std::string& title);

// The result of a fixed statement as a table.
template <class... Values>
Table select(SQLite::Database& db, const std::string& title, const std::string& sql,
             const Values&... values) {
  SQLite::Statement statement(db, sql);
  bind_all(statement, values...);
  return table_of(statement, title);
}

// A one-row table turned on its side: field, value.
Table upright(const Table& wide);

// The configuration of a run. Throws StoreError when there is no such run.
std::string config_of(SQLite::Database& db, const std::filesystem::path& file, std::int64_t run);

// A run as one wide row; the environment of its last attempt. One parameter: the run.
extern const char* const kRunSql;
extern const char* const kEnvironmentSql;

}  // namespace dkdm::results
