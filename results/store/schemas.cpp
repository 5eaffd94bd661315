// Read from a database in memory that each schema makes: no second list of tables can disagree with
// it.
#include "results/store/schemas.hpp"

#include <map>
#include <mutex>

#include "embedded.hpp"
#include "results/store/database.hpp"

namespace dkdm::results {
namespace {

struct Schema {
  std::vector<SchemaObject> objects;
  std::vector<SchemaTable> tables;
};

Schema read_schema(const char* sql) {
  SQLite::Database db(":memory:", SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE);
  db.exec(sql);
  Schema schema;
  SQLite::Statement objects(db,
                            "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL "
                            "AND name NOT LIKE 'sqlite_%' ORDER BY rowid");
  while (objects.executeStep()) {
    schema.objects.push_back({objects.getColumn(0).getString(), objects.getColumn(1).getString(),
                              objects.getColumn(2).getString()});
  }
  SQLite::Statement columns(db, "SELECT name FROM pragma_table_info(?) ORDER BY cid");
  for (const auto& object : schema.objects) {
    if (object.type != "table") continue;
    auto& table = schema.tables.emplace_back(SchemaTable{object.name, object.sql, {}});
    columns.reset();
    columns.bind(1, object.name);
    while (columns.executeStep()) table.columns.push_back(columns.getColumn(0).getString());
  }
  return schema;
}

const Schema& schema_of(std::int64_t version) {
  static std::mutex mutex;
  static std::map<std::int64_t, Schema> schemas;  // those that were asked for
  const std::lock_guard lock(mutex);
  auto& schema = schemas[version];
  if (schema.objects.empty()) {
    schema = read_schema(version == kSchemaVersion
                             ? kSchemaSql
                             : kEarlierSchemas.at(static_cast<std::size_t>(version - 1)));
  }
  return schema;
}

}  // namespace

const std::vector<SchemaObject>& schema_objects(std::int64_t version) {
  return schema_of(version).objects;
}

const std::vector<SchemaTable>& schema_tables(std::int64_t version) {
  return schema_of(version).tables;
}

}  // namespace dkdm::results
