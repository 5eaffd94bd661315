// Opening the database, its schema, and SQLite's error codes in words.
#include "results/store/database.hpp"

#include <sqlite3.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <random>
#include <system_error>
#include <thread>
#include <vector>

#include "core/record/process.hpp"
#include "dkdm/store_error.hpp"
#include "embedded.hpp"
#include "results/store/migrate.hpp"
#include "results/store/published.hpp"
#include "results/store/trust.hpp"

namespace dkdm::results {
namespace {

// Shared memory between machines does not exist, so write-ahead logging corrupts on these.
bool on_network(const std::filesystem::path& file) {
  struct statfs info{};
  const auto folder = file.has_parent_path() ? file.parent_path() : std::filesystem::path(".");
  if (statfs(folder.c_str(), &info) != 0) return false;
  constexpr std::array<std::uint32_t, 8> kNetwork = {
      0x6969,      // NFS
      0x517b,      // SMB
      0xff534d42,  // CIFS
      0xfe534d42,  // SMB2
      0x65735546,  // FUSE
      0x0bd00bd0,  // Lustre
      0x47504653,  // GPFS
      0x01021997,  // 9P
  };
  return std::find(kNetwork.begin(), kNetwork.end(), static_cast<std::uint32_t>(info.f_type)) !=
         kNetwork.end();
}

// One line, whatever SQLite or the system said.
std::string describe(int code, int system_error, const std::string& message) {
  const auto reason = system_error != 0 ? std::string(std::strerror(system_error)) : message;
  switch (code & 0xff) {
    case SQLITE_FULL:
      return "the disk is full; free some space and rerun the same command (everything "
             "recorded before is kept)";
    case SQLITE_READONLY:
      return "cannot be written: " + message +
             "; make the file and its folder writable, or set "
             "DKDM_HOME to a folder that is";
    case SQLITE_CANTOPEN:
      return "cannot be opened: " + reason +
             "; make the file and its folder writable, or set "
             "DKDM_HOME to a folder that is";
    case SQLITE_NOTADB:
      return "not a SQLite database (or its first bytes are damaged); move it away to start a new "
             "one, or restore a copy";
    case SQLITE_CORRUPT:
      return "damaged (" + message +
             "); move it away to start a new one, or restore a copy; "
             "sqlite3's .recover saves what is readable";
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return "locked by another process for too long; wait for it to end, or end it, and give the "
             "same command again";
    case SQLITE_PERM:
    case SQLITE_AUTH: return "access denied: " + reason;
    case SQLITE_IOERR:
      return "input/output error " + std::to_string(code) + " (" + reason +
             "): a quota, a file size limit or a failing disk; everything recorded before is kept";
    default: return message;
  }
}

// SQLite's own handler sleeps up to 100 ms at a time, so one of several busy writers may never see
// the moment between two transactions of the others. Short waits of uneven length do.
int wait_a_little(void* waiter, int attempt) {
  auto& patience = *static_cast<Patience*>(waiter);
  const auto now = std::chrono::steady_clock::now();
  if (attempt == 0) patience.since = now;
  if (now - patience.since >= patience.timeout) return 0;
  thread_local std::minstd_rand random(std::random_device{}());
  std::this_thread::sleep_for(std::chrono::microseconds(100 + random() % 3'000));
  return 1;
}

void mark_crashed(SQLite::Database& db) {
  SQLite::Statement running(
      db, "SELECT id, pid, process FROM attempts WHERE status = 'running' AND host = ?");
  running.bind(1, record::host_name());
  std::vector<std::int64_t> gone;
  while (running.executeStep()) {
    const auto token = record::process_token(running.getColumn(1).getInt64());
    if (token != running.getColumn(2).getString()) gone.push_back(running.getColumn(0).getInt64());
  }
  for (const auto id : gone) {
    execute(
        db,
        "UPDATE attempts SET status = 'crashed', message = iif(message = '', '', message || ': ') "
        "|| 'its process ended without a message (killed, out of memory or power lost); rerun the "
        "same command to resume' WHERE id = ?",
        id);
  }
}

std::unique_ptr<SQLite::Database> opened(const std::string& name, int flags, Patience& patience) {
  auto sqlite = std::make_unique<SQLite::Database>(name, SQLite::OPEN_READONLY | flags);
  harden(*sqlite);
  sqlite3_busy_handler(sqlite->getHandle(), wait_a_little, &patience);
  sqlite->execAndGet("SELECT count(*) FROM sqlite_schema");
  return sqlite;
}

}  // namespace

std::unique_ptr<SQLite::Database> open_frozen(const std::filesystem::path& file) {
  static Patience none{};  // nobody else has a lock
  std::string uri = "file:";
  for (const char c : std::filesystem::absolute(file).string()) {
    if (c == '?' || c == '#' || c == '%') {
      std::array<char, 4> escaped{};
      std::snprintf(escaped.data(), escaped.size(), "%%%02x", static_cast<unsigned char>(c));
      uri += escaped.data();
    } else {
      uri += c;
    }
  }
  return opened(uri + "?immutable=1", SQLite::OPEN_URI, none);
}

std::unique_ptr<SQLite::Database> open_read_only(const std::filesystem::path& file,
                                                 Patience& patience) {
  std::error_code error;
  if (!std::filesystem::exists(file, error)) {
    throw StoreError(file.string() + ": " + (error ? error.message() : "no such file") +
                         "; the first `dkdm run` or `dkdm quickstart` makes it",
                     SQLITE_CANTOPEN);
  }
  try {
    return opened(file.string(), 0, patience);
  } catch (const SQLite::Exception& exception) {
    // A write-ahead database in a folder that cannot be written has no place for its index. With no
    // log beside it nobody is writing, and it can be read as it is.
    const int code = exception.getErrorCode();
    const bool folder = code == SQLITE_CANTOPEN || code == SQLITE_READONLY;
    if (!folder || std::filesystem::exists(file.string() + "-wal", error)) throw;
    return open_frozen(file);
  }
}

void throw_store_error(const std::filesystem::path& file, SQLite::Database* sqlite,
                       const SQLite::Exception& error) {
  const int code =
      error.getExtendedErrorCode() > 0 ? error.getExtendedErrorCode() : error.getErrorCode();
  int system_error = sqlite != nullptr ? sqlite3_system_errno(sqlite->getHandle()) : 0;
  // SQLite tries several ways to open a file and keeps the reason of the last one: the system knows
  // better.
  if (sqlite == nullptr || (code & 0xff) == SQLITE_CANTOPEN) {
    std::error_code ignored;
    const auto target = std::filesystem::exists(file, ignored) ? file : file.parent_path();
    if (access(target.empty() ? "." : target.c_str(), R_OK | W_OK) != 0) system_error = errno;
  }
  throw StoreError(file.string() + ": " + describe(code, system_error, error.what()), code);
}

std::string iso_time(double seconds) {
  const auto whole = std::floor(seconds);
  auto milliseconds = static_cast<int>(std::lround((seconds - whole) * 1000));
  auto time = static_cast<std::time_t>(whole);
  if (milliseconds == 1000) {
    milliseconds = 0;
    ++time;
  }
  std::tm parts{};
  if (gmtime_r(&time, &parts) == nullptr) return "";
  std::array<char, 64> text{};
  const auto length = std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S", &parts);
  std::snprintf(text.data() + length, text.size() - length, ".%03dZ", milliseconds);
  return text.data();
}

Database::Database(std::filesystem::path file, OpenMode mode, int busy_timeout_ms)
    : file_(std::move(file)), patience_{std::chrono::milliseconds(busy_timeout_ms)} {
  std::error_code error;
  const auto status = std::filesystem::status(file_, error);
  if (std::filesystem::is_directory(status)) {
    throw StoreError(file_.string() + ": is a folder, expected the results database",
                     SQLITE_CANTOPEN);
  }
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status)) {
    // SQLite would wait for a pipe.
    throw StoreError(file_.string() + ": is not a regular file, expected the results database",
                     SQLITE_CANTOPEN);
  }
  try {
    open(mode);
  } catch (const SQLite::Exception& exception) {
    fail(exception);
  }
}

void Database::open(OpenMode mode) {
  if (mode == OpenMode::read) {
    open_for_reading();
    return;
  }
  std::error_code error;
  if (file_.has_parent_path()) std::filesystem::create_directories(file_.parent_path(), error);
  if (error) {
    throw StoreError(file_.string() + ": its folder cannot be made: " + error.message() +
                         "; set DKDM_HOME to a folder that is writable",
                     SQLITE_CANTOPEN);
  }
  sqlite_ = std::make_unique<SQLite::Database>(file_.string(),
                                               SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE);
  harden(*sqlite_);
  sqlite3_busy_handler(sqlite_->getHandle(), wait_a_little, &patience_);
  const auto version = schema_version();  // refuses what is not ours before anything is changed
  set_journal();
  sqlite_->exec("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON");
  if (version > 0 && version < kSchemaVersion) {
    migration_ = migrate(*sqlite_, file_);
  }
  prepare();
}

void Database::open_for_reading() {
  sqlite_ = open_read_only(file_, patience_);
  // The views of ten thousand runs read some fifty MiB, again and again. What a statement sorts
  // stays in memory, where it can be limited: files in /tmp would grow until the disk is full.
  sqlite_->exec("PRAGMA query_only = ON; PRAGMA cache_size = -65536; PRAGMA temp_store = MEMORY");
  const auto version = schema_version();
  if (version == 0) {
    throw StoreError(file_.string() +
                     ": empty; the first `dkdm run` or `dkdm quickstart` "
                     "records into it");
  }
  if (version < kSchemaVersion) {
    throw StoreError(file_.string() + ": has schema version " + std::to_string(version) +
                     ", this dkdm reads version " + std::to_string(kSchemaVersion) +
                     "; `dkdm db migrate` brings it up to date and keeps a copy");
  }
  if (!own_views_) {
    throw StoreError(file_.string() + ": its views or triggers are not those of schema version " +
                     std::to_string(version) + "; `dkdm db migrate` makes them anew");
  }
}

void Database::attach(const std::filesystem::path& other, const std::string& name) {
  try {
    execute(*sqlite_, ("ATTACH ? AS " + name).c_str(), other.string());
  } catch (const SQLite::Exception& exception) {
    fail(exception);
  }
}

void Database::close_log() {
  try {
    sqlite_->execAndGet("PRAGMA journal_mode = DELETE").getString();
  } catch (const SQLite::Exception& exception) {
    fail(exception);
  }
}

// SQLite does not wait for other processes when it switches a file to write-ahead logging.
void Database::set_journal() {
  const char* wanted = on_network(file_) ? "delete" : "wal";
  const auto deadline = std::chrono::steady_clock::now() + patience_.timeout;
  for (;;) {
    try {
      if (sqlite_->execAndGet("PRAGMA journal_mode").getString() == wanted) return;
      sqlite_->execAndGet(std::string("PRAGMA journal_mode = ") + wanted).getString();
      return;
    } catch (const SQLite::Exception& exception) {
      if (exception.getErrorCode() != SQLITE_BUSY || std::chrono::steady_clock::now() > deadline) {
        throw;
      }
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

// Of one state of the file: another process may be creating the schema just now.
std::int64_t Database::schema_version() {
  SQLite::Transaction snapshot(*sqlite_);
  const auto version = checked_version(*sqlite_, file_);
  if (version > 0) {
    require_tables(*sqlite_, version, file_);
    own_views_ = has_own_views(*sqlite_, version, file_);
  }
  return version;
}

// One transaction, so that of several processes that start at once one makes the schema.
void Database::prepare() {
  SQLite::Transaction transaction(*sqlite_, SQLite::TransactionBehavior::EXCLUSIVE);
  if (sqlite_->execAndGet("PRAGMA user_version").getInt64() == 0) {
    sqlite_->exec(kSchemaSql);
    sqlite_->exec("PRAGMA application_id = " + std::to_string(kApplicationId));
    sqlite_->exec("PRAGMA user_version = " + std::to_string(kSchemaVersion));
  } else if (!has_own_views(*sqlite_, kSchemaVersion, file_)) {
    restore_views(*sqlite_);
  }
  SQLite::Statement upsert(
      *sqlite_,
      "INSERT INTO published (section, row, metric, value) VALUES (?, ?, ?, ?) "
      "ON CONFLICT DO UPDATE SET value = excluded.value WHERE value <> excluded.value");
  for (const auto& figure : published_figures()) {
    bind_all(upsert, figure.section, figure.row, figure.metric, figure.value);
    upsert.exec();
    upsert.reset();
  }
  mark_crashed(*sqlite_);
  transaction.commit();
}

void Database::fail(const SQLite::Exception& error) const {
  throw_store_error(file_, sqlite_.get(), error);
}

void copy_database(const std::filesystem::path& file, const std::filesystem::path& copy) {
  Patience patience{std::chrono::seconds(30)};
  std::unique_ptr<SQLite::Database> reader;
  try {
    reader = open_read_only(file, patience);
  } catch (const SQLite::Exception& exception) {
    throw_store_error(file, nullptr, exception);
  }
  try {
    execute(*reader, "VACUUM INTO ?", copy.string());
  } catch (const SQLite::Exception& exception) {
    throw_store_error(copy, reader.get(), exception);
  }
}

}  // namespace dkdm::results
