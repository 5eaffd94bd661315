// SQLite says what the columns are, the comments of schema.sql what they mean.
#include "results/query/schema_doc.hpp"

#include <map>
#include <sstream>
#include <vector>

#include "embedded.hpp"
#include "results/store/database.hpp"
#include "results/store/examples.hpp"

namespace dkdm::results {
namespace {

// Comment lines right before the statement that makes NAME; "" holds those that open the file.
std::map<std::string, std::string> comments_of(const std::string& sql) {
  std::map<std::string, std::string> comments;
  std::istringstream lines(sql);
  std::string block;
  bool opening = true;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("-- ")) {
      block += (block.empty() ? "" : " ") + line.substr(3);
      continue;
    }
    if (line.empty() && opening) {
      comments[""] = block;
      opening = false;
    }
    std::istringstream words(line);
    std::string create, kind, name;
    if (words >> create >> kind >> name && create == "CREATE") comments[name] = block;
    block.clear();
  }
  return comments;
}

// What stands behind "--" on the line of each column of a CREATE TABLE.
std::map<std::string, std::string> column_comments(const std::string& create) {
  std::map<std::string, std::string> comments;
  std::istringstream lines(create);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string name;
    const auto comment = line.find("-- ");
    if (words >> name && comment != std::string::npos) comments[name] = line.substr(comment + 3);
  }
  return comments;
}

std::string in_cell(const std::string& text) {
  std::string out;
  for (const char c : text) out += c == '|' ? std::string("\\|") : std::string(1, c);
  return out;
}

void describe_table(SQLite::Database& db, const std::string& name, const std::string& create,
                    std::ostream& out) {
  const auto comments = column_comments(create);
  std::map<std::string, std::string> references;
  SQLite::Statement keys(db, "SELECT \"from\", \"table\", \"to\" FROM pragma_foreign_key_list(?)");
  keys.bind(1, name);
  while (keys.executeStep()) {
    references[keys.getColumn(0).getString()] =
        keys.getColumn(1).getString() + "." + keys.getColumn(2).getString();
  }
  out << "| column | type | meaning |\n| --- | --- | --- |\n";
  SQLite::Statement columns(
      db, "SELECT name, lower(type), \"notnull\" OR pk, pk FROM pragma_table_info(?) ORDER BY cid");
  columns.bind(1, name);
  while (columns.executeStep()) {
    const auto column = columns.getColumn(0).getString();
    std::string meaning;
    if (const auto comment = comments.find(column); comment != comments.end()) {
      meaning = in_cell(comment->second);
    }
    if (const auto key = references.find(column); key != references.end()) {
      meaning = "`" + key->second + "`" + (meaning.empty() ? "" : "; " + meaning);
    }
    out << "| `" << column << "`" << (columns.getColumn(3).getInt() > 0 ? " (key)" : "") << " | "
        << columns.getColumn(1).getString() << (columns.getColumn(2).getInt() > 0 ? "" : " or NULL")
        << " | " << meaning << " |\n";
  }
}

void describe_view(SQLite::Database& db, const std::string& name, std::ostream& out) {
  SQLite::Statement columns(db, "SELECT name FROM pragma_table_info(?) ORDER BY cid");
  columns.bind(1, name);
  std::string list;
  while (columns.executeStep()) {
    list += (list.empty() ? "`" : ", `") + columns.getColumn(0).getString() + "`";
  }
  out << "Columns: " << list << ".\n";
  for (const auto& example : query_examples()) {
    if (example.view == name) {
      out << "\n" << example.question << "\n\n    " << example.sql << "\n";
    }
  }
}

}  // namespace

std::string schema_sql() { return kSchemaSql; }

std::string schema_markdown() {
  SQLite::Database db(":memory:", SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE);
  db.exec(kSchemaSql);
  const auto comments = comments_of(kSchemaSql);
  std::ostringstream out;
  out << "# Schema of the results database\n\n"
      << "Made from `store/schema.sql` by `dkdm db schema --format markdown`.\n\n"
      << comments.at("") << "\n";
  for (const std::string type : {"table", "view"}) {
    out << "\n## " << (type == "table" ? "Tables" : "Views") << "\n";
    SQLite::Statement objects(db,
                              "SELECT name, sql FROM sqlite_schema WHERE type = ? "
                              "AND name NOT LIKE 'sqlite_%' ORDER BY rowid");
    objects.bind(1, type);
    while (objects.executeStep()) {
      const auto name = objects.getColumn(0).getString();
      out << "\n### " << name << "\n\n" << comments.at(name) << "\n\n";
      if (type == "table") {
        describe_table(db, name, objects.getColumn(1).getString(), out);
      } else {
        describe_view(db, name, out);
      }
    }
  }
  return out.str();
}

}  // namespace dkdm::results
