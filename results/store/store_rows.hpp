// Rows that more than one writer of the database makes. Internal to results/.
#pragma once

#include <string>
#include <vector>

#include "core/record/records.hpp"
#include "results/store/database.hpp"
#include "results/store/settings.hpp"

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
  execute(
      db,
      ("INSERT INTO " + table + " (" + names + ") VALUES (" + marks + ") ON CONFLICT DO NOTHING")
          .c_str(),
      values...);
  SQLite::Statement find(db, "SELECT id FROM " + table + " WHERE " + equal);
  bind_all(find, values...);
  find.executeStep();
  return find.getColumn(0).getInt64();
}

// The row of experiments that `run` is of.
std::int64_t intern_experiment(SQLite::Database& db, const record::RunRecord& run);
// 128 random bits: the same run or request in every copy and merge of this file.
std::string new_uid();

void insert_settings(SQLite::Database& db, std::int64_t run, const Settings& settings);
// What a row's configuration is called where nothing was planned (record::RunRecord::variant): 24
// hexadecimal digits of a hash, as of planned ones.
std::string variant_of_text(const std::string& text);
std::string variant_of_settings(const Settings& settings);
// A stage of a run, or what is known of it now; a done one is never replaced by a lesser one.
void upsert_stage(SQLite::Database& db, std::int64_t run, const record::StageRecord& stage);
void insert_artifact(SQLite::Database& db, const record::ArtifactRecord& artifact);
void insert_metrics(SQLite::Database& db, std::int64_t run,
                    const std::vector<record::MetricRecord>& metrics);
// Another one takes its place.
void insert_selection(SQLite::Database& db, std::int64_t run,
                      const record::SelectionRecord& selection);

}  // namespace dkdm::results
