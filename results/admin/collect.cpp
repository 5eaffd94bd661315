#include "results/admin/collect.hpp"

#include <algorithm>

#include "core/record/process.hpp"
#include "dkdm/store_error.hpp"
#include "results/store/artifacts.hpp"
#include "results/store/database.hpp"

namespace dkdm::results {
namespace {

namespace fs = std::filesystem;

void require_idle(SQLite::Database& db, const fs::path& file) {
  SQLite::Statement running(
      db, "SELECT run, pid, host, process FROM attempts WHERE status = 'running'");
  while (running.executeStep()) {
    const auto pid = running.getColumn(1).getInt64();
    const auto host = running.getColumn(2).getString();
    if (host == record::host_name() &&
        record::process_token(pid) != running.getColumn(3).getString())
      continue;
    throw StoreError(file.string() + ": run " + running.getColumn(0).getString() +
                     " is being written by process " + std::to_string(pid) + " on " + host +
                     "; what it makes is not on record yet: wait for its end");
  }
}

std::vector<Garbage> garbage_in(SQLite::Database& db, const fs::path& file, const fs::path& root) {
  require_idle(db, file);
  std::vector<Garbage> garbage;
  SQLite::Statement named(db,
                          "SELECT 1 FROM stages WHERE key = ? UNION ALL "
                          "SELECT 1 FROM runs WHERE key = ?1 LIMIT 1");
  for (const auto& artifact : list_artifacts(root)) {
    named.reset();
    named.bind(1, artifact.key);
    if (named.executeStep()) continue;
    garbage.push_back({artifact.path, folder_bytes(root / artifact.path)});
  }
  return garbage;
}

}  // namespace

std::vector<Garbage> find_garbage(const fs::path& file, const fs::path& root) {
  Database database(file, OpenMode::read);
  return database.read([&](SQLite::Database& db) { return garbage_in(db, file, root); });
}

std::int64_t delete_garbage(const fs::path& file, const fs::path& root,
                            const std::vector<Garbage>& garbage) {
  Database database(file, OpenMode::write);
  // In a writing transaction no run can begin.
  return database.write([&](SQLite::Database& db) {
    std::int64_t bytes = 0;
    for (const auto& still : garbage_in(db, file, root)) {
      const bool asked = std::any_of(garbage.begin(), garbage.end(), [&](const Garbage& wanted) {
        return wanted.path == still.path;
      });
      if (!asked) continue;
      std::error_code error;
      fs::remove_all(root / still.path, error);
      if (error) {
        throw StoreError((root / still.path).string() + ": cannot be deleted: " + error.message());
      }
      execute(db, "DELETE FROM artifacts WHERE path = ?", still.path);
      bytes += still.bytes;
    }
    return bytes;
  });
}

}  // namespace dkdm::results
