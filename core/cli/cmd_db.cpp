// dkdm db: the database's file: what it is, its schema, its health, its union with others.
#include <unistd.h>

#include <iostream>

#include "cli/commands.hpp"
#include "cli/evaluator_splits.hpp"
#include "cli/options.hpp"
#include "io/plain_text.hpp"
#include "results/admin/check.hpp"
#include "results/admin/collect.hpp"
#include "results/admin/info.hpp"
#include "results/admin/merge.hpp"
#include "results/query/schema_doc.hpp"
#include "results/store/store.hpp"

namespace dkdm::cli {

namespace fs = std::filesystem;

namespace {

int info(const Options& options, Context& context) {
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

int schema(const Options& options) {
  if (options.format() == results::Format::text) std::cout << results::schema_sql();
  else if (options.format() == results::Format::markdown) std::cout << results::schema_markdown();
  else options.misuse("db schema: --format text (SQL) or markdown");
  return 0;
}

void say_migrated(const fs::path& file, const results::Migration& migration) {
  std::cerr << "dkdm: " << file.string() << ": schema " << migration.from << " -> " << migration.to
            << "; the file as it was: " << migration.backup.string() << '\n';
}

int migrate(Context& context) {
  const fs::path file = context.recorded_database();
  const results::Store store(file);
  if (const auto migration = store.migration()) say_migrated(file, *migration);
  else std::cerr << "dkdm: " << file.string() << ": up to date\n";
  return 0;
}

int check(const Options& options, Context& context) {
  const auto report =
      results::check_database(context.recorded_database(), context.home(),
                              {.repair = options.has("repair"), .hash = options.has("hash")});
  results::Table table;
  table.columns = {{"state"}, {"what"}, {"remedy"}};
  for (const auto& what : report.checks) table.rows.push_back({"looked at", what, ""});
  for (const auto& finding : report.findings) {
    table.rows.push_back({finding.repaired ? "repaired" : "wrong", finding.what,
                          finding.repaired ? "" : finding.remedy});
  }
  options.print(table);
  return static_cast<int>(report.sound() ? ExitCode::done : ExitCode::run_failed);
}

int merge(const std::vector<std::string>& sources, const Options& options, Context& context) {
  if (sources.empty()) options.misuse("db merge: which databases?");
  results::Table table;
  table.columns = {{"from"}, {"added to"}, {"rows", results::Align::right, true}};
  bool damaged = false;
  for (const std::string& source : sources) {
    const auto report = results::merge_database(context.database(), context.home(), source);
    for (const auto& [name, count] : report.added) {
      if (count > 0) table.rows.push_back({source, name, std::to_string(count)});
    }
    if (report.total() == 0) table.rows.push_back({source, "nothing: all is here", "0"});
    for (const auto& conflict : report.conflicts) {
      std::cerr << "dkdm: " << source << ": " << io::printable(conflict)
                << "; keeping the local copy\n";
    }
    for (const auto& what : report.damaged) {
      std::cerr << "dkdm: " << source << ": " << io::printable(what) << '\n';
      damaged = true;
    }
  }
  options.print(table);
  say_evaluator_splits(context);
  return static_cast<int>(damaged ? ExitCode::run_failed : ExitCode::done);
}

bool confirmed(const Options& options) {
  if (options.has("yes")) return true;
  if (::isatty(STDIN_FILENO) == 0) return false;
  std::cerr << "Delete them? [y/N] ";
  std::string answer;
  std::getline(std::cin, answer);
  return answer == "y" || answer == "yes";
}

int collect(const Options& options, Context& context) {
  const fs::path file = context.recorded_database();
  const auto garbage = results::find_garbage(file, context.home());
  results::Table table;
  table.columns = {{"folder"}, {"bytes", results::Align::right, true}};
  std::int64_t bytes = 0;
  for (const auto& folder : garbage) {
    bytes += folder.bytes;
    table.rows.push_back({folder.path, std::to_string(folder.bytes)});
  }
  options.print(table);
  std::cerr << "dkdm: " << garbage.size() << " folders that no run names, " << bytes << " bytes\n";
  if (garbage.empty() || options.has("dry-run")) return 0;
  if (!confirmed(options)) {
    std::cerr << "dkdm: nothing deleted; --yes deletes them\n";
    return 0;
  }
  std::cerr << "dkdm: " << results::delete_garbage(file, context.home(), garbage)
            << " bytes freed\n";
  return 0;
}

}  // namespace

int cmd_db(const Arguments& args, Context& context) {
  Options options(
      "db info | schema | check | migrate | merge SOURCE… | gc [options]",
      "The results database:\n"
      "  info     its file, schema version, size and rows\n"
      "  schema   the SQL of its tables and views; --format markdown explains every column\n"
      "  check    checks integrity and consistency with the artifacts; exit code 1 when not sound\n"
      "  migrate  bring a file of an earlier dkdm up to date; the file as it was is kept beside\n"
      "  merge    add what other databases have: results.sqlite files, folders that hold one, or\n"
      "           archives of `dkdm runs export`; with their artifacts. Nothing is overwritten: where an\n"
      "           artifact differs there, that is said and the local copy is kept (exit code 0: machines\n"
      "           do differ in the last bits); exit code 1 when an artifact there is damaged\n"
      "  gc       list artifacts that no run names, then delete them");
  options.add()("repair", "check: repair what can be repaired")(
      "hash", "check: read every artifact, not its size alone")(
      "dry-run", "gc: list, delete nothing")("yes", "gc: delete without asking");
  options.with_format().with_words(-1);
  if (!options.parse(args)) return 0;
  auto words = options.words();
  const std::string action = words.empty() ? "info" : words[0];
  if (!words.empty()) words.erase(words.begin());
  if (action == "merge") return merge(words, options, context);
  if (!words.empty()) options.misuse("db " + action + ": takes options only");
  if (action == "info") return info(options, context);
  if (action == "schema") return schema(options);
  if (action == "check") return check(options, context);
  if (action == "migrate") return migrate(context);
  if (action == "gc") return collect(options, context);
  options.unknown("db", action, {"info", "schema", "check", "migrate", "merge", "gc"},
                  "info, schema, check, migrate, merge, gc");
}

}  // namespace dkdm::cli
