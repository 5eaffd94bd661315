// Counts the tables of the schema; those that others put into the file are not looked at.
#include "results/admin/info.hpp"

#include <algorithm>

#include "results/store/database.hpp"
#include "results/store/schemas.hpp"

namespace dkdm::results {

StoreInfo store_info(const std::filesystem::path& file) {
  Database database(file, OpenMode::read);
  StoreInfo info;
  for (const char* suffix : {"", "-wal"}) {
    std::error_code absent;
    const auto bytes = std::filesystem::file_size(file.string() + suffix, absent);
    if (!absent) info.bytes += static_cast<std::int64_t>(bytes);
  }
  database.read([&](SQLite::Database& db) {
    info.schema_version = db.execAndGet("PRAGMA user_version").getInt64();
    info.journal = db.execAndGet("PRAGMA journal_mode").getString();
    for (const auto& table : schema_tables(kSchemaVersion)) {
      info.rows.emplace_back(table.name,
                             db.execAndGet("SELECT count(*) FROM " + table.name).getInt64());
    }
    std::sort(info.rows.begin(), info.rows.end());
  });
  return info;
}

}  // namespace dkdm::results
