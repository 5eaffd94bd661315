// Follows https://sqlite.org/security.html, "Untrusted SQLite Database Files".
#include "results/store/trust.hpp"

#include <sqlite3.h>

#include <map>

#include "dkdm/store_error.hpp"
#include "results/store/schemas.hpp"

namespace dkdm::results {
namespace {

constexpr int kTextLimit = 64 << 20;  // bytes of a value: a configuration, a message
constexpr int kSqlLimit = 1 << 20;    // of one object's definition

// What CREATE makes by the beginning of its text, as SQLite keeps it; "" = not to be told.
std::string made_by(std::string_view sql) {
  for (const auto& [words, type] :
       std::map<std::string_view, const char*>{{"CREATE TABLE ", "table"},
                                               {"CREATE INDEX ", "index"},
                                               {"CREATE UNIQUE INDEX ", "index"},
                                               {"CREATE VIEW ", "view"},
                                               {"CREATE TRIGGER ", "trigger"},
                                               {"CREATE VIRTUAL TABLE ", "virtual table"}}) {
    if (sql.starts_with(words)) return type;
  }
  return "";
}

[[noreturn]] void refuse(const std::filesystem::path& file, const std::string& why) {
  throw StoreError(file.string() + ": not a results database as dkdm makes it: " + why);
}

}  // namespace

void harden(SQLite::Database& db) {
  auto* handle = db.getHandle();
  sqlite3_db_config(handle, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  sqlite3_db_config(handle, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0, nullptr);
  sqlite3_limit(handle, SQLITE_LIMIT_LENGTH, kTextLimit);
  sqlite3_limit(handle, SQLITE_LIMIT_SQL_LENGTH, kSqlLimit);
  db.exec("PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0");
}

std::int64_t checked_version(SQLite::Database& db, const std::filesystem::path& file) {
  const auto version = db.execAndGet("PRAGMA user_version").getInt64();
  const auto application = db.execAndGet("PRAGMA application_id").getInt64();
  const auto objects = db.execAndGet("SELECT count(*) FROM sqlite_schema").getInt64();
  if (objects == 0 && version == 0) return 0;
  if (application != kApplicationId) {
    throw StoreError(file.string() + ": a SQLite database of another program (application id " +
                     std::to_string(application) + ", expected " + std::to_string(kApplicationId) +
                     "); name another file");
  }
  if (version < 1 || version > kSchemaVersion) {
    throw StoreError(file.string() + ": has schema version " + std::to_string(version) +
                     ", this dkdm knows version " + std::to_string(kSchemaVersion) +
                     "; update dkdm, or name another file with DKDM_HOME");
  }
  return version;
}

void require_tables(SQLite::Database& db, std::int64_t version, const std::filesystem::path& file) {
  SQLite::Statement columns(db, "SELECT name, hidden FROM pragma_table_xinfo(?1, 'main')");
  for (const auto& table : schema_tables(version)) {
    // A view's columns are not found, and its definition is not looked into.
    const int code = sqlite3_table_column_metadata(db.getHandle(), "main", table.name.c_str(),
                                                   table.columns.front().c_str(), nullptr, nullptr,
                                                   nullptr, nullptr, nullptr);
    if (code == SQLITE_ERROR) refuse(file, "it has no table " + table.name);
    if (code != SQLITE_OK) throw SQLite::Exception(db.getHandle(), code);
    std::map<std::string, bool> computed;  // by name
    columns.reset();
    columns.bind(1, table.name);
    while (columns.executeStep()) {
      computed[columns.getColumn(0).getString()] = columns.getColumn(1).getInt() != 0;
    }
    for (const auto& column : table.columns) {
      const auto found = computed.find(column);
      if (found == computed.end()) refuse(file, "table " + table.name + " has no column " + column);
      if (found->second)
        refuse(file, "column " + column + " of table " + table.name + " is computed");
    }
  }
}

bool has_own_views(SQLite::Database& db, std::int64_t version, const std::filesystem::path& file) {
  std::map<std::string, std::string> wanted;  // name, SQL
  for (const auto& object : schema_objects(version)) {
    if (object.type == "view" || object.type == "trigger") wanted[object.name] = object.sql;
  }
  std::size_t found = 0;
  bool same = true;
  SQLite::Statement objects(db, "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL");
  while (objects.executeStep()) {
    const auto name = objects.getColumn(0).getString(), sql = objects.getColumn(1).getString();
    const auto type = made_by(sql);
    const auto ours = wanted.find(name);
    if (type.empty()) refuse(file, "'" + name + "' is defined by no CREATE statement");
    if (type == "trigger" && ours == wanted.end()) {
      refuse(file, "it has a trigger '" + name + "' of its own; drop it to go on");
    }
    if (ours == wanted.end()) continue;
    ++found;
    same = same && sql == ours->second;
  }
  return same && found == wanted.size();
}

void restore_views(SQLite::Database& db) {
  const auto& objects = schema_objects(kSchemaVersion);
  // The names are the schema's own.
  for (const auto& object : objects) {
    if (object.type == "view" || object.type == "trigger") {
      db.exec("DROP " + object.type + " IF EXISTS " + object.name);
    }
  }
  for (const auto& object : objects) {
    if (object.type == "view" || object.type == "trigger") db.exec(object.sql);
  }
}

}  // namespace dkdm::results
