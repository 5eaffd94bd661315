// Rows that more than one writer of the database makes. Internal to results/.
#pragma once

#include <string>
#include <vector>

#include "core/run/records.hpp"
#include "results/database.hpp"
#include "results/settings.hpp"

namespace dkdm::results {

// The id of the row that equals `values`, made when there is none. `table` has a UNIQUE constraint
// over `columns`.
template <class... Values>
std::int64_t intern(SQLite::Database& db, const std::string& table,
                    const std::vector<std::string>& columns, const Values&... values) {
  std::string names, marks, equal;
  for (const auto& column : columns) {
    names += (names.empty() ? "" : ", ") + column;
    marks += marks.empty() ? "?" : ", ?";
    equal += (equal.empty() ? "" : " AND ") + column + " = ?";
  }
  execute(db,
          ("INSERT INTO " + table + " (" + names + ") VALUES (" + marks +
           ") ON CONFLICT DO NOTHING")
              .c_str(),
          values...);
  SQLite::Statement find(db, "SELECT id FROM " + table + " WHERE " + equal);
  bind_all(find, values...);
  find.executeStep();
  return find.getColumn(0).getInt64();
}

void insert_settings(SQLite::Database& db, std::int64_t run, const Settings& settings);
// A stage of a run, or what is known of it now; a done one is never replaced by a lesser one.
void upsert_stage(SQLite::Database& db, std::int64_t run, const run::StageRecord& stage);
void insert_artifact(SQLite::Database& db, const run::ArtifactRecord& artifact);
void insert_metrics(SQLite::Database& db, std::int64_t run,
                    const std::vector<run::MetricRecord>& metrics);

}  // namespace dkdm::results
