// Read-only by four locks: the file is opened read-only, `query_only` is set, an authorizer allows
// reading alone, and the statement must say of itself that it writes nothing.
#include "results/query/query.hpp"

#include <sqlite3.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <memory>
#include <set>
#include <string_view>
#include <vector>

#include "dkdm/nearest.hpp"
#include "record/clock.hpp"
#include "results/store/database.hpp"

namespace dkdm::results {
namespace {

struct Finalize {
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
using StatementPtr = std::unique_ptr<sqlite3_stmt, Finalize>;

// sqlite3_set_authorizer's callback. SQLite calls ATTACH and many PRAGMAs "read-only", since they
// do not write this file; here they are refused all the same.
int allow_reading(void*, int action, const char* first, const char* second, const char*,
                  const char*) {
  constexpr std::array<std::string_view, 7> kDescribing = {
      "table_info", "table_xinfo", "table_list",      "index_list",
      "index_info", "index_xinfo", "foreign_key_list"};
  switch (action) {
    case SQLITE_SELECT:
    case SQLITE_READ:
    case SQLITE_RECURSIVE: return SQLITE_OK;
    case SQLITE_FUNCTION:
      return second != nullptr && std::string_view(second) == "load_extension" ? SQLITE_DENY
                                                                               : SQLITE_OK;
    case SQLITE_UPDATE:  // so SQLite announces that it declares a table-valued pragma function
      return first != nullptr && std::string_view(first) == "sqlite_master" ? SQLITE_OK
                                                                            : SQLITE_DENY;
    case SQLITE_PRAGMA:
      return std::find(kDescribing.begin(), kDescribing.end(), first) != kDescribing.end()
                 ? SQLITE_OK
                 : SQLITE_DENY;
    default: return SQLITE_DENY;
  }
}

using Names = std::vector<std::string>;

Names names_of(SQLite::Database& db, const char* type) {
  Names names;
  SQLite::Statement select(db,
                           "SELECT name FROM sqlite_schema WHERE type = ? AND name NOT LIKE "
                           "'sqlite_%' ORDER BY name");
  select.bind(1, type);
  while (select.executeStep()) names.push_back(select.getColumn(0).getString());
  return names;
}

std::string joined(const Names& names) {
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

Names columns_of(SQLite::Database& db, const std::string& table) {
  Names names;
  SQLite::Statement select(db, "SELECT name FROM pragma_table_xinfo(?) ORDER BY cid");
  select.bind(1, table);
  while (select.executeStep()) names.push_back(select.getColumn(0).getString());
  return names;
}

// Tables and views that `sql` has as words.
Names mentioned(const Names& tables, const std::string& sql) {
  const auto in_word = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_';
  };
  Names found;
  for (const auto& table : tables) {
    for (auto at = sql.find(table); at != std::string::npos; at = sql.find(table, at + 1)) {
      const auto end = at + table.size();
      if ((at > 0 && in_word(sql[at - 1])) || (end < sql.size() && in_word(sql[end]))) continue;
      found.push_back(table);
      break;
    }
  }
  return found;
}

// What would be right instead of the name that SQLite did not know; "" where its message is of
// another kind.
std::string remedy(SQLite::Database& db, const std::string& message, const std::string& sql) {
  const auto after = [&](const std::string& start) {
    return message.starts_with(start) ? message.substr(start.size()) : std::string();
  };
  const auto views = names_of(db, "view");
  auto tables = names_of(db, "table");
  if (const auto wrong = after("no such table: "); !wrong.empty()) {
    auto all = views;  // of two that are as near the view is meant
    all.insert(all.end(), tables.begin(), tables.end());
    const auto near = nearest_name(wrong, all);
    return near.empty() ? "; views: " + joined(views) + "; tables: " + joined(tables)
                        : "; did you mean " + near + "?";
  }
  auto wrong = after("no such column: ");
  if (wrong.empty()) return "";
  wrong.erase(0, wrong.rfind('.') + 1);
  tables.insert(tables.end(), views.begin(), views.end());
  const auto named = mentioned(tables, sql);
  Names columns;
  for (const auto& table : named) {
    const auto more = columns_of(db, table);
    columns.insert(columns.end(), more.begin(), more.end());
  }
  if (columns.empty()) return "";
  if (const auto near = nearest_name(wrong, columns); !near.empty())
    return "; did you mean " + near + "?";
  // Not near any of these: perhaps the name of another table's.
  std::string elsewhere;
  for (const auto& table : tables) {
    const auto others = columns_of(db, table);
    if (std::find(others.begin(), others.end(), wrong) != others.end())
      elsewhere += (elsewhere.empty() ? "" : ", ") + table;
  }
  return "; " + joined(named) + (named.size() == 1 ? " has " : " have ") + joined(columns) +
         (elsewhere.empty() ? "" : "; a column of that name is in " + elsewhere);
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
      const std::string reason = sqlite3_errmsg(db.getHandle());
      std::string message = reason;
      const int offset = sqlite3_error_offset(db.getHandle());
      if (offset >= 0) {
        message += " (at character " + std::to_string(text - sql.c_str() + offset + 1) + ")";
      }
      throw ConfigError("query", message + remedy(db, reason, sql));
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
    case SQLITE_NULL: return {};
    case SQLITE_FLOAT: {
      const double value = sqlite3_column_double(statement, column);
      Cell cell(readable(value));
      cell.raw = shortest(value);
      return cell;
    }
    case SQLITE_BLOB:
      return "<" + std::to_string(sqlite3_column_bytes(statement, column)) + " bytes>";
    default: {
      const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement, column));
      return std::string(text, sqlite3_column_bytes(statement, column));
    }
  }
}

// Asked by SQLite while it works, even where that yields no row (sqlite3_progress_handler).
class Watch {
 public:
  explicit Watch(const QueryLimits& limits) : limits_(limits) {}

  bool ended() const {
    return stopped() || (limits_.seconds > 0 && record::seconds_since(began_) > limits_.seconds);
  }
  // The answer has grown by `bytes`.
  void add(std::uint64_t bytes) {
    bytes_ += bytes;
    if (bytes_ <= limits_.bytes) return;
    throw ConfigError("query", "the answer takes more than " + std::to_string(limits_.bytes >> 20) +
                                   " MiB of memory; add a LIMIT, or ask for fewer columns");
  }
  [[noreturn]] void fail_for_memory() const {
    throw ConfigError("query", "sorting or joining takes more than " +
                                   std::to_string(limits_.bytes >> 20) +
                                   " MiB of memory; add a WHERE, or join on equal columns");
  }
  [[noreturn]] void fail() const {
    if (stopped()) throw Interrupted();
    throw ConfigError("query", "stopped after " + shortest(limits_.seconds) +
                                   " s; --time-limit SECONDS allows more, --time-limit 0 any time");
  }

 private:
  bool stopped() const { return limits_.stop != nullptr && limits_.stop->load(); }

  const QueryLimits& limits_;
  record::Clock::time_point began_ = record::Clock::now();
  std::uint64_t bytes_ = 0;
};

// All memory of SQLite in this process, while it lives.
class HeapLimit {
 public:
  explicit HeapLimit(std::uint64_t bytes)
      : before_(
            sqlite3_hard_heap_limit64(sqlite3_memory_used() + static_cast<sqlite3_int64>(bytes))) {}
  ~HeapLimit() { sqlite3_hard_heap_limit64(before_); }
  HeapLimit(const HeapLimit&) = delete;
  HeapLimit& operator=(const HeapLimit&) = delete;

 private:
  const sqlite3_int64 before_;
};

Table fetch(SQLite::Database& db, const std::string& sql, Watch& watch) {
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
      watch.add(sizeof(Cell) + (row.back().text ? row.back().text->size() : 0));
    }
  }
  if (code == SQLITE_INTERRUPT) watch.fail();
  if (code == SQLITE_NOMEM) watch.fail_for_memory();
  if (code == SQLITE_ERROR) throw ConfigError("query", sqlite3_errmsg(db.getHandle()));
  if (code != SQLITE_DONE) throw SQLite::Exception(db.getHandle(), code);
  return table;
}

}  // namespace

Table query(const std::filesystem::path& file, const std::string& sql, const QueryLimits& limits) {
  Database database(file, OpenMode::read);
  return database.read([&](SQLite::Database& db) {
    sqlite3_set_authorizer(db.getHandle(), allow_reading, nullptr);
    // Lifted at the end, for the transaction's own COMMIT.
    const std::unique_ptr<sqlite3, int (*)(sqlite3*)> guard(db.getHandle(), [](sqlite3* handle) {
      sqlite3_progress_handler(handle, 0, nullptr, nullptr);
      return sqlite3_set_authorizer(handle, nullptr, nullptr);
    });
    Watch watch(limits);
    const HeapLimit heap(limits.bytes);
    constexpr int kOperations = 10'000;  // well below a millisecond
    sqlite3_progress_handler(
        db.getHandle(), kOperations,
        [](void* self) { return static_cast<const Watch*>(self)->ended() ? 1 : 0; }, &watch);
    return fetch(db, sql, watch);
  });
}

}  // namespace dkdm::results
