#include "results/store/run_tables.hpp"

#include <functional>
#include <map>

#include "dkdm/store_error.hpp"

namespace dkdm::results {
namespace {

using Show = std::function<std::string(double)>;

// Result column -> how its number is shown; columns without an entry are shown as SQLite has them.
using Shows = std::map<std::string, Show>;

const Shows& shows() {
  static const Show kBytes = [](double bytes) { return count_text(bytes) + "B"; };
  static const Shows kShows = {{"started", time_text},     {"ended", time_text},
                               {"seconds", duration_text}, {"elapsed", duration_text},
                               {"flops", count_text},      {"memory", kBytes},
                               {"peak", kBytes},           {"device peak", kBytes}};
  return kShows;
}

}  // namespace

Table table_of(SQLite::Statement& statement, const std::string& title) {
  Table table{title, {}, {}};
  for (int c = 0; c < statement.getColumnCount(); ++c) {
    table.columns.push_back({statement.getColumnName(c), Align::right, true});
  }
  while (statement.executeStep()) {
    auto& row = table.rows.emplace_back();
    for (int c = 0; c < statement.getColumnCount(); ++c) {
      const auto value = statement.getColumn(c);
      const auto show = shows().find(table.columns[c].title);
      if (value.isNull()) {
        row.emplace_back();
      } else if (show != shows().end()) {
        row.emplace_back(show->second(value.getDouble())).raw = shortest(value.getDouble());
      } else if (value.isFloat()) {
        row.emplace_back(readable(value.getDouble())).raw = shortest(value.getDouble());
      } else {
        row.emplace_back(value.getString());
        if (value.isText()) table.columns[c] = {table.columns[c].title};
      }
    }
  }
  return table;
}

Table upright(const Table& wide) {
  Table tall{wide.title, {{"field"}, {"value"}}, {}};
  if (wide.rows.empty()) return tall;
  for (std::size_t c = 0; c < wide.columns.size(); ++c) {
    tall.rows.push_back({wide.columns[c].title, wide.rows[0][c]});
  }
  return tall;
}

std::string config_of(SQLite::Database& db, const std::filesystem::path& file, std::int64_t run) {
  SQLite::Statement find(db, "SELECT config FROM runs WHERE id = ?");
  find.bind(1, run);
  if (!find.executeStep()) {
    throw StoreError(file.string() + ": there is no run " + std::to_string(run) +
                     "; `dkdm runs` lists them");
  }
  return find.getColumn(0).getString();
}

const char* const kRunSql =
    "SELECT r.id, e.name AS experiment, e.title, e.scale, e.file, r.row, r.label, r.seed, s.status, "
    "s.stage AS \"stopped in\", s.message, s.started, s.seconds, r.method, r.student, r.teacher, r.teacher_key, "
    "r.dataset, r.evaluator, r.parameters, "
    "e.published_section || ' ' || r.published_row AS published, r.variant, r.key, "
    "p.note AS pinned FROM runs r JOIN experiments e ON e.id = r.experiment JOIN run_status s ON s.run = r.id "
    "LEFT JOIN pins p ON p.run = r.id "
    "WHERE r.id = ?";
const char* const kEnvironmentSql =
    "SELECT host, os, cpu, cpu_features, gpu, device, driver, libtorch, compiler, dkdm_version, "
    "git_revision, git_dirty, cores, threads, threads_reason AS \"threads because\", "
    "memory_bytes AS memory, repeatable FROM environments "
    "WHERE id = (SELECT environment FROM attempts WHERE run = ? ORDER BY id DESC LIMIT 1)";

}  // namespace dkdm::results
