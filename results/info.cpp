// Counts from the file itself, so that a table of a later schema is listed too.
#include "results/info.hpp"

#include "results/database.hpp"

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
    SQLite::Statement names(db,
                            "SELECT name FROM sqlite_schema WHERE type = 'table' AND "
                            "name NOT LIKE 'sqlite_%' ORDER BY name");
    while (names.executeStep()) {
      const std::string name = names.getColumn(0).getString();
      info.rows.emplace_back(name,
                             db.execAndGet("SELECT count(*) FROM \"" + name + '"').getInt64());
    }
  });
  return info;
}

}  // namespace dkdm::results
