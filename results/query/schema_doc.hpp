// The schema as a page for people: results/schema.md.
#pragma once

#include <string>

namespace dkdm::results {

// The SQL that makes an empty database, with its comments.
std::string schema_sql();

// Tables with the meaning of each column, and views with their columns and an example query; from
// the comments of that SQL.
std::string schema_markdown();

}  // namespace dkdm::results
