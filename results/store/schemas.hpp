// The schema of every version that a file may have. Internal to results/.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace dkdm::results {

struct SchemaObject {
  std::string type, name, sql;  // 'table', 'index', 'view' or 'trigger'; as SQLite keeps it
};

struct SchemaTable {
  std::string name, sql;
  std::vector<std::string> columns;
};

// 1 … the present version. Objects in the order of the schema: what one refers to is before it.
const std::vector<SchemaObject>& schema_objects(std::int64_t version);
const std::vector<SchemaTable>& schema_tables(std::int64_t version);

}  // namespace dkdm::results
