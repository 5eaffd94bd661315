// dkdm db: the database's file.
#include "cli/commands.hpp"
#include "cli/options.hpp"
#include "results/info.hpp"

namespace dkdm::cli {

namespace fs = std::filesystem;

int cmd_db(const Arguments& args, Context& context) {
  Options options("db info [--format F]",
                  "The results database: its file, schema version, size and rows.");
  options.with_format().with_words(1);
  if (!options.parse(args)) return 0;
  if (const auto words = options.words(); !words.empty() && words[0] != "info") {
    options.misuse("db: no '" + words[0] + "'; there is: info");
  }
  const fs::path file = context.recorded_database();
  const results::StoreInfo info = results::store_info(file);
  results::Table table;
  table.columns = {{"property"}, {"value"}};
  table.rows = {{"file", file.string()},
                {"schema version", std::to_string(info.schema_version)},
                {"journal", info.journal},
                {"bytes", std::to_string(info.bytes)}};
  for (const auto& [name, rows] : info.rows) {
    table.rows.push_back({"rows in " + name, std::to_string(rows)});
  }
  options.print(table);
  return 0;
}

}  // namespace dkdm::cli
