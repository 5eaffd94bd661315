// The database file: opening, schema, transactions, and SQLite's errors as one clear line each.
// Internal to results/ (the only header that shows SQLiteCpp).
#pragma once

#include <SQLiteCpp/Database.h>
#include <SQLiteCpp/Exception.h>
#include <SQLiteCpp/Statement.h>
#include <SQLiteCpp/Transaction.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "dkdm/error.hpp"
#include "results/store/migration.hpp"

namespace dkdm::results {

// In the file's header: what makes it ours, and the schema it has.
constexpr std::int64_t kApplicationId = 0x646b646d;  // "dkdm"
constexpr std::int64_t kSchemaVersion = 8;

enum class OpenMode { read, write };

// How long a connection waits for another's lock.
struct Patience {
  std::chrono::milliseconds timeout;
  std::chrono::steady_clock::time_point since{};  // of the wait that is under way
};

class Database {
 public:
  // write: makes folder, file and schema where missing, migrates an older one, brings the published
  // figures up to date and marks runs whose process is gone as crashed. read: the file must exist,
  // have the present schema, and is never changed. Waits up to `busy_timeout_ms` for another
  // process's lock, here and in every call. Throws StoreError.
  Database(std::filesystem::path file, OpenMode mode, int busy_timeout_ms = 30'000);

  const std::filesystem::path& file() const { return file_; }
  const std::optional<Migration>& migration() const { return migration_; }

  // Makes the tables of another database visible as `name`.TABLE. It must be of this schema.
  void attach(const std::filesystem::path& other, const std::string& name);
  // Moves the log into the file and removes it, so that the file alone is the database.
  void close_log();

  // Calls f(SQLite::Database&) on one snapshot and returns its result.
  template <class F>
  auto read(F&& f) {
    return transact(SQLite::TransactionBehavior::DEFERRED, std::forward<F>(f));
  }
  // Calls f(SQLite::Database&) in one transaction, committed when f returns, undone when it throws.
  template <class F>
  auto write(F&& f) {
    return transact(SQLite::TransactionBehavior::IMMEDIATE, std::forward<F>(f));
  }

 private:
  template <class F>
  auto transact(SQLite::TransactionBehavior behavior, F&& f) {
    const std::lock_guard lock(mutex_);
    try {
      SQLite::Transaction transaction(*sqlite_, behavior);
      try {
        if constexpr (std::is_void_v<decltype(f(*sqlite_))>) {
          f(*sqlite_);
          transaction.commit();
        } else {
          auto result = f(*sqlite_);
          transaction.commit();
          return result;
        }
      } catch (const SQLite::Exception& error) {
        fail(error);  // before the rollback, which forgets the system's reason
      }
    } catch (const SQLite::Exception& error) {
      fail(error);  // it could not begin
    }
  }

  void open(OpenMode mode);
  void open_for_reading();
  void set_journal();
  std::int64_t schema_version();
  void prepare();
  [[noreturn]] void fail(const SQLite::Exception& error) const;

  std::filesystem::path file_;
  Patience patience_;
  bool own_views_ = false;  // its views and triggers are the schema's
  std::unique_ptr<SQLite::Database> sqlite_;
  std::optional<Migration> migration_;
  std::mutex mutex_;
};

template <class Value>
void bind_one(SQLite::Statement& statement, int index, const Value& value) {
  statement.bind(index, value);
}
// Nothing is NULL.
template <class Value>
void bind_one(SQLite::Statement& statement, int index, const std::optional<Value>& value) {
  if (value) statement.bind(index, *value);
  else statement.bind(index);
}

// Binds `values` to the statement's parameters in order.
template <class... Values>
void bind_all(SQLite::Statement& statement, const Values&... values) {
  int index = 0;
  (bind_one(statement, ++index, values), ...);
}

// Runs `sql` with `values` bound in order.
template <class... Values>
void execute(SQLite::Database& db, const char* sql, const Values&... values) {
  SQLite::Statement statement(db, sql);
  bind_all(statement, values...);
  statement.exec();
}

// A hardened connection (trust.hpp) that reads; throws SQLite::Exception, or StoreError where there
// is no such file. Frozen: nobody else has it open; what lies beside it is not looked at.
std::unique_ptr<SQLite::Database> open_read_only(const std::filesystem::path& file,
                                                 Patience& patience);
std::unique_ptr<SQLite::Database> open_frozen(const std::filesystem::path& file);

// SQLite's error about `file` as a StoreError. `sqlite` null = it never opened.
[[noreturn]] void throw_store_error(const std::filesystem::path& file, SQLite::Database* sqlite,
                                    const SQLite::Exception& error);

// Writes what `file` holds now to `copy`, which must not exist; other processes may go on writing.
// Throws StoreError.
void copy_database(const std::filesystem::path& file, const std::filesystem::path& copy);

// Unix seconds in ISO 8601, UTC, with milliseconds: "2026-11-28T15:04:05.250Z"; what SQL has as
// strftime('%Y-%m-%dT%H:%M:%fZ', seconds, 'unixepoch').
std::string iso_time(double seconds);

}  // namespace dkdm::results
