// Read-only by four locks: the file is opened read-only, `query_only` is set, an authorizer allows
// reading alone, and the statement must say of itself that it writes nothing.
#include "results/query.hpp"

#include <sqlite3.h>

#include <algorithm>
#include <array>
#include <memory>
#include <set>
#include <string_view>

#include "results/database.hpp"

namespace dkdm::results {
namespace {

struct Finalize {
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
using StatementPtr = std::unique_ptr<sqlite3_stmt, Finalize>;

// sqlite3_set_authorizer's callback. SQLite calls ATTACH and many PRAGMAs "read-only", since they do
// not write this file; here they are refused all the same.
int allow_reading(void*, int action, const char* first, const char* second, const char*,
                  const char*) {
  constexpr std::array<std::string_view, 7> kDescribing = {
      "table_info", "table_xinfo", "table_list", "index_list",
      "index_info", "index_xinfo", "foreign_key_list"};
  switch (action) {
    case SQLITE_SELECT:
    case SQLITE_READ:
    case SQLITE_RECURSIVE:
      return SQLITE_OK;
    case SQLITE_FUNCTION:
      return second != nullptr && std::string_view(second) == "load_extension" ? SQLITE_DENY
                                                                               : SQLITE_OK;
    case SQLITE_UPDATE:  // so SQLite announces that it declares a table-valued pragma function
      return first != nullptr && std::string_view(first) == "sqlite_master" ? SQLITE_OK : SQLITE_DENY;
    case SQLITE_PRAGMA:
      return std::find(kDescribing.begin(), kDescribing.end(), first) != kDescribing.end()
                 ? SQLITE_OK
                 : SQLITE_DENY;
    default:
      return SQLITE_DENY;
  }
}

std::string names_of(SQLite::Database& db, const char* type) {
  SQLite::Statement names(db,
                          "SELECT group_concat(name, ', ') FROM (SELECT name FROM sqlite_schema "
                          "WHERE type = ? AND name NOT LIKE 'sqlite_%' ORDER BY name)");
  names.bind(1, type);
  names.executeStep();
  return names.getColumn(0).getString();
}

[[noreturn]] void refuse(const std::string& reason) {
  throw ConfigError("query", reason + "; expected one SELECT: a query reads, it changes nothing");
}

// Compiles the one statement of `sql`.
StatementPtr compile(SQLite::Database& db, const std::string& sql) {
  const auto prepare = [&](const char* text, const char** tail) {
    sqlite3_stmt* raw = nullptr;
    const int code = sqlite3_prepare_v2(db.getHandle(), text, -1, &raw, tail);
    StatementPtr statement(raw);
    if (code == SQLITE_AUTH) refuse("not allowed here");
    if (code == SQLITE_ERROR) {
      std::string message = sqlite3_errmsg(db.getHandle());
      const int offset = sqlite3_error_offset(db.getHandle());
      if (offset >= 0) {
        message += " (at character " + std::to_string(text - sql.c_str() + offset + 1) + ")";
      }
      throw ConfigError("query", message + "; tables: " + names_of(db, "table") +
                                     "; views: " + names_of(db, "view"));
    }
    if (code != SQLITE_OK) throw SQLite::Exception(db.getHandle(), code);
    return statement;
  };
  const char* tail = nullptr;
  auto statement = prepare(sql.c_str(), &tail);
  if (!statement) refuse("empty");
  if (!sqlite3_stmt_readonly(statement.get())) refuse("not allowed here");
  const char* rest = nullptr;
  while (*tail != '\0') {
    if (prepare(tail, &rest)) refuse("more than one statement");
    if (rest == tail) break;
    tail = rest;
  }
  return statement;
}

Cell cell_of(sqlite3_stmt* statement, int column) {
  switch (sqlite3_column_type(statement, column)) {
    case SQLITE_NULL:
      return {};
    case SQLITE_FLOAT:
      return shortest(sqlite3_column_double(statement, column));
    case SQLITE_BLOB:
      return "<" + std::to_string(sqlite3_column_bytes(statement, column)) + " bytes>";
    default: {
      const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement, column));
      return std::string(text, sqlite3_column_bytes(statement, column));
    }
  }
}

Table fetch(SQLite::Database& db, const std::string& sql) {
  const auto statement = compile(db, sql);
  Table table;
  std::set<std::string> taken;
  for (int c = 0; c < sqlite3_column_count(statement.get()); ++c) {
    const std::string name = sqlite3_column_name(statement.get(), c);
    auto title = name;  // JSON's keys and a reader's eye want different names
    for (int copy = 2; !taken.insert(title).second; ++copy) {
      title = name + "_" + std::to_string(copy);
    }
    table.columns.push_back({title, Align::right, true});
  }
  int code = SQLITE_ROW;
  while ((code = sqlite3_step(statement.get())) == SQLITE_ROW) {
    auto& row = table.rows.emplace_back();
    for (int c = 0; c < static_cast<int>(table.columns.size()); ++c) {
      const int type = sqlite3_column_type(statement.get(), c);
      if (type == SQLITE_TEXT || type == SQLITE_BLOB) table.columns[c] = {table.columns[c].title};
      row.push_back(cell_of(statement.get(), c));
    }
  }
  if (code == SQLITE_ERROR) throw ConfigError("query", sqlite3_errmsg(db.getHandle()));
  if (code != SQLITE_DONE) throw SQLite::Exception(db.getHandle(), code);
  return table;
}

}  // namespace

Table query(const std::filesystem::path& file, const std::string& sql) {
  Database database(file, OpenMode::read);
  return database.read([&](SQLite::Database& db) {
    sqlite3_set_authorizer(db.getHandle(), allow_reading, nullptr);
    // Lifted at the end, for the transaction's own COMMIT.
    const std::unique_ptr<sqlite3, int (*)(sqlite3*)> guard(
        db.getHandle(),
        [](sqlite3* handle) { return sqlite3_set_authorizer(handle, nullptr, nullptr); });
    return fetch(db, sql);
  });
}

}  // namespace dkdm::results
