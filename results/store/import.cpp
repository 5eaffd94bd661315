#include "results/store/import.hpp"

#include <sqlite3.h>

#include <string_view>

#include "core/io/input_file.hpp"
#include "dkdm/store_error.hpp"
#include "results/store/artifacts.hpp"
#include "results/store/database.hpp"
#include "results/store/schemas.hpp"
#include "results/store/trust.hpp"

namespace dkdm::results {
namespace {

namespace fs = std::filesystem;

// sqlite3_set_authorizer's callback: reading columns, and the one description that is asked for.
int allow_columns(void*, int action, const char* first, const char* second, const char*,
                  const char*) {
  const std::string_view name = first != nullptr ? first : "";
  switch (action) {
    case SQLITE_SELECT:
    case SQLITE_READ: return SQLITE_OK;
    case SQLITE_PRAGMA:
      return name == "table_xinfo" || name == "user_version" || name == "application_id"
                 ? SQLITE_OK
                 : SQLITE_DENY;
    case SQLITE_UPDATE:  // so SQLite announces that it declares a table-valued pragma function
      return name == "sqlite_master" ? SQLITE_OK : SQLITE_DENY;
    case SQLITE_FUNCTION:
      return second != nullptr && std::string_view(second) == "count" ? SQLITE_OK : SQLITE_DENY;
    default: return SQLITE_DENY;
  }
}

struct Finalize {
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
using StatementPtr = std::unique_ptr<sqlite3_stmt, Finalize>;

// By SQLite itself, whose values pass from one statement to another as they are.
StatementPtr prepared(SQLite::Database& db, const std::string& sql) {
  sqlite3_stmt* raw = nullptr;
  const int code = sqlite3_prepare_v2(db.getHandle(), sql.c_str(), -1, &raw, nullptr);
  if (code != SQLITE_OK) throw SQLite::Exception(db.getHandle(), code);
  return StatementPtr(raw);
}

void require(SQLite::Database& db, bool done) {
  if (!done) throw SQLite::Exception(db.getHandle(), sqlite3_errcode(db.getHandle()));
}

std::string list_of(const std::vector<std::string>& names) {
  std::string list;
  for (const auto& name : names) list += (list.empty() ? "" : ", ") + name;
  return list;
}

class Import {
 public:
  // `bytes`: all that `from` has, with a log beside it.
  Import(SQLite::Database& from, SQLite::Database& to, const fs::path& file, std::uint64_t bytes)
      : from_(from), to_(to), file_(file), bytes_left_(bytes), rows_left_(bytes) {}

  void run() {
    const auto version = checked_version(from_, file_);
    if (version == 0) throw StoreError(file_.string() + ": empty");
    require_tables(from_, version, file_);
    for (const auto& table : schema_tables(version)) {
      to_.exec(table.sql);
      copy(table);
    }
    // After the rows, which they are about.
    for (const auto& object : schema_objects(version)) {
      if (object.type != "table") to_.exec(object.sql);
    }
    to_.exec("PRAGMA application_id = " + std::to_string(kApplicationId));
    to_.exec("PRAGMA user_version = " + std::to_string(version));
    SQLite::Statement broken(to_, "PRAGMA foreign_key_check");
    if (broken.executeStep()) {
      throw StoreError(file_.string() + ": a row of " + broken.getColumn(0).getString() +
                       " refers to a row of " + broken.getColumn(2).getString() +
                       " that is not there");
    }
  }

 private:
  void copy(const SchemaTable& table) {
    const auto count = static_cast<int>(table.columns.size());
    std::string places = "?";
    for (int c = 1; c < count; ++c) places += ", ?";
    // Their indexes are not asked: one may not agree with its table.
    const auto read = prepared(
        from_, "SELECT " + list_of(table.columns) + " FROM main." + table.name + " NOT INDEXED");
    const auto write = prepared(to_, "INSERT INTO " + table.name + " (" + list_of(table.columns) +
                                         ") VALUES (" + places + ")");
    auto *source = read.get(), *target = write.get();
    int code = SQLITE_OK;
    while ((code = sqlite3_step(source)) == SQLITE_ROW) {
      spend(rows_left_, 1, table.name);
      for (int c = 0; c < count; ++c) {
        auto* value = sqlite3_column_value(source, c);
        const int type = sqlite3_value_type(value);
        if (type == SQLITE_TEXT || type == SQLITE_BLOB) {
          spend(bytes_left_, static_cast<std::uint64_t>(sqlite3_value_bytes(value)), table.name);
        }
        if (type == SQLITE_TEXT) {
          const auto* text = reinterpret_cast<const char*>(sqlite3_value_text(value));
          check_path(table.name, table.columns[static_cast<std::size_t>(c)],
                     {text, static_cast<std::size_t>(sqlite3_value_bytes(value))});
        }
        require(to_, sqlite3_bind_value(target, c + 1, value) == SQLITE_OK);
      }
      require(to_, sqlite3_step(target) == SQLITE_DONE);
      sqlite3_reset(target);
    }
    require(from_, code == SQLITE_DONE);
  }

  // Pages that are linked to more than once would give rows without end.
  void spend(std::uint64_t& left, std::uint64_t amount, const std::string& table) {
    if (amount > left) {
      throw StoreError(file_.string() + ": damaged: table " + table +
                       " holds more than the file has bytes for");
    }
    left -= amount;
  }

  // What becomes part of a path here stays in the store.
  void check_path(const std::string& table, const std::string& column,
                  const std::string& text) const {
    const bool path = (table == "stages" && column == "artifact") ||
                      (table == "artifacts" && (column == "path" || column == "kind"));
    const bool key =
        column == "key" && (table == "stages" || table == "artifacts" || table == "runs");
    if (!path && !key) return;
    if (text.empty() ||
        (record::stays_below(text) && (path || text.find('/') == std::string::npos)))
      return;
    throw StoreError(file_.string() + ": " + column + " '" + text + "' of table " + table +
                     " leads out of the artifact store");
  }

  SQLite::Database& from_;
  SQLite::Database& to_;
  const fs::path& file_;
  std::uint64_t bytes_left_, rows_left_;
};

}  // namespace

bool is_database(const fs::path& file) {
  constexpr std::string_view kMagic{"SQLite format 3\0", 16};
  const io::InputFile input(file);
  return input.size() >= kMagic.size() && input.read(0, kMagic.size()) == kMagic;
}

void import_database(const fs::path& file, const fs::path& copy, const fs::path& unpacked_from) {
  const auto& named = unpacked_from.empty() ? file : unpacked_from;
  const io::Descriptor regular(file);  // SQLite would wait for a pipe
  Patience patience{std::chrono::seconds(30)};
  try {
    auto from = unpacked_from.empty() ? open_read_only(file, patience) : open_frozen(file);
    sqlite3_drop_modules(from->getHandle(), nullptr);  // a virtual table is none of ours
    from->exec("BEGIN");  // one state of it, whoever writes; ends with the connection
    sqlite3_set_authorizer(from->getHandle(), allow_columns, nullptr);
    SQLite::Database to(copy.string(), SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE);
    harden(to);
    to.exec("PRAGMA synchronous = OFF");  // a copy that nobody else sees
    SQLite::Transaction transaction(to);
    std::error_code none;
    const auto log = fs::file_size(file.string() + "-wal", none);
    Import(*from, to, named, fs::file_size(file) + (none ? 0 : log)).run();
    transaction.commit();
  } catch (const SQLite::Exception& error) {
    std::error_code ignored;
    fs::remove(copy, ignored);
    throw_store_error(named, nullptr, error);
  } catch (...) {
    std::error_code ignored;
    fs::remove(copy, ignored);
    throw;
  }
  Database(copy, OpenMode::write);  // migrates it, which is all ours now
}

}  // namespace dkdm::results
