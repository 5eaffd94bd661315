// A table whose definition changed is made anew and filled from the old one; the others stay where
// they are. So one function serves every earlier version.
#include "results/migrate.hpp"

#include <map>
#include <set>
#include <string>
#include <vector>

#include "embedded.hpp"
#include "results/schemas.hpp"
#include "results/settings.hpp"
#include "results/store_rows.hpp"
#include "results/trust.hpp"

namespace dkdm::results {
namespace {

struct Object {
  std::string type, name, table, sql;
};

std::vector<Object> objects_of(SQLite::Database& db) {
  SQLite::Statement rows(db,
                         "SELECT type, name, tbl_name, sql FROM sqlite_schema "
                         "WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY rowid");
  std::vector<Object> objects;
  while (rows.executeStep()) {
    objects.push_back({rows.getColumn(0).getString(), rows.getColumn(1).getString(),
                       rows.getColumn(2).getString(), rows.getColumn(3).getString()});
  }
  return objects;
}

std::vector<std::string> columns_of(SQLite::Database& db, const std::string& table) {
  SQLite::Statement rows(db, "SELECT name FROM pragma_table_info(?) ORDER BY cid");
  rows.bind(1, table);
  std::vector<std::string> columns;
  while (rows.executeStep()) columns.push_back(rows.getColumn(0).getString());
  return columns;
}

// What fills a column that the old table lacks, in terms of the old one (kept as old_NAME).
const std::map<std::pair<std::string, std::string>, std::string>& new_columns() {
  static const std::map<std::pair<std::string, std::string>, std::string> kColumns = {
      // Schema 1 had no identity beyond one file: two copies of a file must agree on it.
      {{"runs", "uid"}, "'v1-' || id || '-' || printf('%.6f', created) || '-' || key"},
      {{"metrics", "seed"}, "(SELECT seed FROM old_runs WHERE id = run)"},
  };
  return kColumns;
}

void copy_rows(SQLite::Database& db, const std::string& table) {
  const auto before = columns_of(db, "old_" + table);
  const std::set<std::string> known(before.begin(), before.end());
  std::string names, values;
  for (const auto& column : columns_of(db, table)) {
    const auto fill = new_columns().find({table, column});
    if (known.count(column) == 0 && fill == new_columns().end()) continue;  // its default
    names += (names.empty() ? "" : ", ") + column;
    values += (values.empty() ? "" : ", ") + (known.count(column) > 0 ? column : fill->second);
  }
  // What a new constraint calls the same fact stands once; WHERE true tells ON from a join's.
  db.exec("INSERT INTO " + table + " (" + names + ") SELECT " + values + " FROM old_" + table +
          " WHERE true ORDER BY 1 ON CONFLICT DO NOTHING");
}

void fill_settings(SQLite::Database& db) {
  SQLite::Statement runs(db, "SELECT id, config, row FROM runs ORDER BY id");
  while (runs.executeStep()) {
    insert_settings(db, runs.getColumn(0).getInt64(),
                    settings_of(runs.getColumn(1).getString(), runs.getColumn(2).getString()));
  }
}

void rebuild(SQLite::Database& db, std::int64_t before) {
  SQLite::Database fresh(":memory:", SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE);
  fresh.exec(kSchemaSql);
  const auto wanted = objects_of(fresh);
  std::map<std::string, std::string> wanted_tables;
  for (const auto& object : wanted) {
    if (object.type == "table") wanted_tables[object.name] = object.sql;
  }

  // What others put into the file (a view, a table of theirs) stays as it is. The names that go into
  // SQL are ours.
  std::set<std::string> ours;
  for (const auto version : {before, kSchemaVersion}) {
    for (const auto& object : schema_objects(version)) ours.insert(object.name);
  }
  std::set<std::string> kept, replaced;
  auto present = objects_of(db);
  std::erase_if(present, [&](const Object& object) { return ours.count(object.name) == 0; });
  for (const char* type : {"view", "trigger", "index"}) {
    for (const auto& object : present) {
      if (object.type == type) db.exec("DROP " + object.type + " \"" + object.name + '"');
    }
  }
  for (const auto& object : present) {
    if (object.type != "table") continue;
    const auto same = wanted_tables.find(object.name);
    if (same != wanted_tables.end() && same->second == object.sql) {
      kept.insert(object.name);
    } else {
      db.exec("ALTER TABLE \"" + object.name + "\" RENAME TO \"old_" + object.name + '"');
      replaced.insert(object.name);
    }
  }
  for (const auto& object : wanted) {
    if (object.type != "table" || kept.count(object.name) == 0) db.exec(object.sql);
  }
  const bool without_settings = kept.count("settings") == 0 && replaced.count("settings") == 0;
  for (const auto& object : wanted) {
    if (object.type == "table" && replaced.count(object.name) > 0) copy_rows(db, object.name);
  }
  for (const auto& name : replaced) db.exec("DROP TABLE \"old_" + name + '"');
  if (without_settings) fill_settings(db);

  SQLite::Statement broken(db, "PRAGMA foreign_key_check");
  if (broken.executeStep()) {
    throw StoreError(db.getFilename() + ": a row of " + broken.getColumn(0).getString() +
                     " refers to a row of " + broken.getColumn(2).getString() +
                     " that is not there; the file stays as it is");
  }
}

// Another connection reads while this one keeps writers out: it sees the file as it was.
std::filesystem::path keep_copy(const std::filesystem::path& file, std::int64_t version) {
  const auto stem = file.string() + ".v" + std::to_string(version) + "-backup";
  std::filesystem::path copy = stem;
  for (int number = 2; std::filesystem::exists(copy); ++number) {
    copy = stem + "-" + std::to_string(number);
  }
  const auto part = copy.string() + ".part";
  std::error_code ignored;
  std::filesystem::remove(part, ignored);
  copy_database(file, part);
  std::filesystem::rename(part, copy);
  return copy;
}

}  // namespace

std::optional<Migration> migrate(SQLite::Database& db, const std::filesystem::path& file) {
  // Neither can be set inside a transaction. Names in REFERENCES must stay as they are.
  db.exec("PRAGMA foreign_keys = OFF; PRAGMA legacy_alter_table = ON");
  std::optional<Migration> done;
  {
    SQLite::Transaction transaction(db, SQLite::TransactionBehavior::IMMEDIATE);
    const auto version = db.execAndGet("PRAGMA user_version").getInt64();
    if (version > 0 && version < kSchemaVersion) {
      // All that decides whether it can be done, before anything changes.
      require_tables(db, version, file);
      has_own_views(db, version, file);
      const auto copy = keep_copy(file, version);
      rebuild(db, version);
      db.exec("PRAGMA user_version = " + std::to_string(kSchemaVersion));
      done = Migration{version, kSchemaVersion, copy};
    }
    transaction.commit();
  }
  db.exec("PRAGMA legacy_alter_table = OFF; PRAGMA foreign_keys = ON");
  return done;
}

}  // namespace dkdm::results
