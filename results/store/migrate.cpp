// A table whose definition changed is made anew and filled from the old one; the others stay where
// they are. So one function serves every earlier version.
#include "results/store/migrate.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "dkdm/store_error.hpp"
#include "embedded.hpp"
#include "results/store/schemas.hpp"
#include "results/store/settings.hpp"
#include "results/store/store_rows.hpp"
#include "results/store/trust.hpp"

namespace dkdm::results {
namespace {

struct Object {
  std::string type, name, table, sql;
};

std::vector<Object> objects_of(SQLite::Database& db) {
  SQLite::Statement rows(db,
                         "SELECT type, name, tbl_name, sql FROM sqlite_schema "
                         "WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY rowid");
  std::vector<Object> objects;
  while (rows.executeStep()) {
    objects.push_back({rows.getColumn(0).getString(), rows.getColumn(1).getString(),
                       rows.getColumn(2).getString(), rows.getColumn(3).getString()});
  }
  return objects;
}

std::vector<std::string> columns_of(SQLite::Database& db, const std::string& table) {
  SQLite::Statement rows(db, "SELECT name FROM pragma_table_info(?) ORDER BY cid");
  rows.bind(1, table);
  std::vector<std::string> columns;
  while (rows.executeStep()) columns.push_back(rows.getColumn(0).getString());
  return columns;
}

// A time that is out of all bounds has no text.
std::string iso_of(const std::string& column) {
  return "coalesce(strftime('%Y-%m-%dT%H:%M:%fZ', " + column + ", 'unixepoch'), '')";
}

// What fills a column that the old table lacks, in terms of the old one (kept as old_NAME).
const std::map<std::pair<std::string, std::string>, std::string>& new_columns() {
  static const std::map<std::pair<std::string, std::string>, std::string> kColumns = {
      // Schema 1 had no identity beyond one file: two copies of a file must agree on it.
      {{"runs", "uid"}, "'v1-' || id || '-' || printf('%.6f', created) || '-' || key"},
      {{"metrics", "seed"}, "(SELECT seed FROM old_runs WHERE id = run)"},
      // Schemas 1 to 3 had no identity of a configuration.
      {{"runs", "samples"},
       "coalesce((SELECT s.key FROM old_stages s WHERE s.run = id AND s.name = 'sample'), key)"},
      {{"runs", "variant"}, "(SELECT v.variant FROM variants_of_old v WHERE v.run = id)"},
      {{"runs", "teacher_key"},
       "coalesce((SELECT s.key FROM old_stages s WHERE s.run = id AND s.name = 'teacher'), '')"},
      {{"environments", "threads_reason"}, "''"},
      // Before schema 7 networks computed on the CPU, whatever else was there.
      {{"environments", "device"}, "'cpu'"},
      {{"environments", "driver"}, "''"},
      {{"environments", "repeatable"}, "1"},
      {{"stages", "graphs"}, "''"},  // since schema 8
      {{"runs", "created_iso"}, iso_of("created")},
      {{"attempts", "started_iso"}, iso_of("started")},
      {{"attempts", "ended_iso"}, "strftime('%Y-%m-%dT%H:%M:%fZ', ended, 'unixepoch')"},
      {{"stages", "started_iso"}, iso_of("started")},
      {{"metrics", "recorded_iso"}, iso_of("recorded")},
      {{"artifacts", "recorded_iso"}, iso_of("recorded")},
      // The value was a number or a text.
      {{"settings", "number"}, "CASE WHEN typeof(value) <> 'text' THEN CAST(value AS REAL) END"},
  };
  return kColumns;
}

void copy_rows(SQLite::Database& db, const std::string& table) {
  const auto before = columns_of(db, "old_" + table);
  const std::set<std::string> known(before.begin(), before.end());
  std::string names, values;
  for (const auto& column : columns_of(db, table)) {
    const auto fill = new_columns().find({table, column});
    if (known.count(column) == 0 && fill == new_columns().end()) continue;  // its default
    names += (names.empty() ? "" : ", ") + column;
    values += (values.empty() ? "" : ", ") + (known.count(column) > 0 ? column : fill->second);
  }
  // What a new constraint calls the same fact stands once; WHERE true tells ON from a join's.
  db.exec("INSERT INTO " + table + " (" + names + ") SELECT " + values + " FROM old_" + table +
          " WHERE true ORDER BY 1 ON CONFLICT DO NOTHING");
}

void fill_settings(SQLite::Database& db) {
  SQLite::Statement runs(db, "SELECT id, config, row FROM runs ORDER BY id");
  while (runs.executeStep()) {
    insert_settings(db, runs.getColumn(0).getInt64(),
                    settings_of(runs.getColumn(1).getString(), runs.getColumn(2).getString()));
  }
}

// SQLite writes some numbers otherwise than TOML: 1.0e-05. A text that a person sees has one form.
void respell_settings(SQLite::Database& db) {
  SQLite::Statement runs(db, "SELECT id, config, row FROM runs ORDER BY id");
  while (runs.executeStep()) {
    for (const auto& [key, value] :
         settings_of(runs.getColumn(1).getString(), runs.getColumn(2).getString())) {
      if (!number_of(value)) continue;
      execute(db, "UPDATE settings SET value = ? WHERE run = ? AND key = ? AND number = ?",
              to_text(value), runs.getColumn(0).getInt64(), key, number_of(value));
    }
  }
}

// What keys are the hashes of, by key: parts and values in their order.
using Determinants = std::map<std::string, std::vector<std::pair<std::string, std::string>>>;

Determinants determinants_of(SQLite::Database& db) {
  Determinants all;
  if (columns_of(db, "determinants").empty()) return all;  // schema 1
  SQLite::Statement rows(
      db, "SELECT stage_key, part, value FROM determinants ORDER BY stage_key, position");
  while (rows.executeStep()) {
    all[rows.getColumn(0).getString()].emplace_back(rows.getColumn(1).getString(),
                                                    rows.getColumn(2).getString());
  }
  return all;
}

// All that determines a stage's output but the run's seed. Parts end with the key of another stage,
// or hold it alone; a sampling ends with "seed N" (core/stages/determinants.cpp). `bytes_left` is
// of the whole file: keys that name each other many times would make a text without end, and stand
// for themselves.
std::string without_seed(const Determinants& all, const std::string& key, std::size_t& bytes_left,
                         int depth = 0) {
  constexpr int kDeepest = 8;  // teacher, synthetic, pool, train, sample, and some to spare
  const auto found = all.find(key);
  if (found == all.end() || depth > kDeepest) return key;
  std::string text;
  for (const auto& [part, value] : found->second) {
    auto kept = value;
    if (part == "seed") kept.clear();
    if (part == "sampling") kept.resize(std::min(kept.size(), kept.rfind(" seed ")));
    const auto bytes = part.size() + kept.size() + 2;
    if (bytes > bytes_left) {
      bytes_left = 0;
      return key;
    }
    bytes_left -= bytes;
    const auto line = kept.rfind('\n');
    const auto input = line == std::string::npos ? kept : kept.substr(line + 1);
    if (all.count(input) > 0) {
      kept = kept.substr(0, kept.size() - input.size()) +
             without_seed(all, input, bytes_left, depth + 1);
    }
    text += part + "\n" + kept + "\n";
  }
  return text;
}

// Fills the table variants_of_old from the old tables, under their names. Runs that differ in the
// seed alone share a variant: the key of the samples at seed 0, as the planner has it, where that
// was run.
void name_variants(SQLite::Database& db) {
  db.exec("CREATE TEMP TABLE variants_of_old (run INTEGER PRIMARY KEY, variant TEXT NOT NULL)");
  const auto determinants = determinants_of(db);
  struct Old {
    std::int64_t run;
    std::string text;
  };
  std::vector<Old> runs;
  std::map<std::string, std::string> names;
  std::size_t bytes_left = std::size_t{256} << 20;  // ten thousand runs have a fifth
  SQLite::Statement rows(
      db,
      "SELECT r.id, r.seed, r.config, r.row, (SELECT key FROM stages WHERE run = r.id AND "
      "name = 'sample' AND status <> 'failed') FROM runs r ORDER BY r.id");
  while (rows.executeStep()) {
    const auto samples = rows.isColumnNull(4) ? "" : rows.getColumn(4).getString();
    const bool known = determinants.count(samples) > 0;
    Old old{rows.getColumn(0).getInt64(), ""};
    if (known) {
      old.text = without_seed(determinants, samples, bytes_left);
      if (rows.getColumn(1).getInt64() == 0) names[old.text] = samples;
      names.emplace(old.text, variant_of_text(old.text));
    } else {
      old.text = variant_of_settings(
          settings_of(rows.getColumn(2).getString(), rows.getColumn(3).getString()));
      names.emplace(old.text, old.text);
    }
    runs.push_back(std::move(old));
  }
  for (const auto& old : runs) {
    execute(db, "INSERT INTO variants_of_old VALUES (?, ?)", old.run, names.at(old.text));
  }
}

// Earlier versions kept no commands: the newest run of each row and seed stands for what was asked
// for.
void fill_requests(SQLite::Database& db) {
  db.exec(
      "INSERT INTO configs (config) SELECT DISTINCT config FROM runs ORDER BY id;"
      "INSERT INTO requests (uid, experiment, command, host, recorded, recorded_iso) "
      "SELECT 'migrated-' || r.uid, r.experiment, '', '', r.created, r.created_iso FROM runs r "
      "WHERE r.id = (SELECT n.id FROM runs n JOIN experiments x ON x.id = n.experiment "
      "WHERE x.name = (SELECT name FROM experiments WHERE id = r.experiment) "
      "ORDER BY n.created DESC, n.id DESC LIMIT 1) ORDER BY r.id;"
      "INSERT INTO request_cells (request, position, row, label, row_order, seed, key, samples, "
      "variant, method, published_row, config) "
      "SELECT q.id, row_number() OVER (PARTITION BY q.id ORDER BY r.seed, r.row_order, r.id), "
      "r.row, r.label, r.row_order, r.seed, r.key, r.samples, r.variant, r.method, "
      "r.published_row, c.id FROM requests q JOIN experiments e ON e.id = q.experiment "
      "JOIN experiments x ON x.name = e.name "
      "JOIN (SELECT o.*, row_number() OVER (PARTITION BY (SELECT name FROM experiments WHERE "
      "id = o.experiment), o.row, o.seed ORDER BY o.created DESC, o.id DESC) AS place "
      "FROM runs o) r ON r.experiment = x.id AND r.place = 1 "
      "JOIN configs c ON c.config = r.config");
}

void rebuild(SQLite::Database& db, std::int64_t before) {
  SQLite::Database fresh(":memory:", SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE);
  fresh.exec(kSchemaSql);
  const auto wanted = objects_of(fresh);
  std::map<std::string, std::string> wanted_tables;
  for (const auto& object : wanted) {
    if (object.type == "table") wanted_tables[object.name] = object.sql;
  }

  name_variants(db);
  // What others put into the file (a view, a table of theirs) stays as it is. The names that go
  // into SQL are ours.
  std::set<std::string> ours;
  for (const auto version : {before, kSchemaVersion}) {
    for (const auto& object : schema_objects(version)) ours.insert(object.name);
  }
  std::set<std::string> kept, replaced;
  auto present = objects_of(db);
  std::erase_if(present, [&](const Object& object) { return ours.count(object.name) == 0; });
  for (const char* type : {"view", "trigger", "index"}) {
    for (const auto& object : present) {
      if (object.type == type) db.exec("DROP " + object.type + " \"" + object.name + '"');
    }
  }
  for (const auto& object : present) {
    if (object.type != "table") continue;
    const auto same = wanted_tables.find(object.name);
    if (same != wanted_tables.end() && same->second == object.sql) {
      kept.insert(object.name);
    } else {
      db.exec("ALTER TABLE \"" + object.name + "\" RENAME TO \"old_" + object.name + '"');
      replaced.insert(object.name);
    }
  }
  for (const auto& object : wanted) {
    if (object.type != "table" || kept.count(object.name) == 0) db.exec(object.sql);
  }
  // A trigger fills it again as the metrics are copied.
  if (replaced.count("metrics") > 0) db.exec("DELETE FROM latest_values");
  const bool without_settings = kept.count("settings") == 0 && replaced.count("settings") == 0;
  for (const auto& object : wanted) {
    if (object.type == "table" && replaced.count(object.name) > 0) copy_rows(db, object.name);
  }
  for (const auto& name : replaced) db.exec("DROP TABLE \"old_" + name + '"');
  if (without_settings) fill_settings(db);
  if (replaced.count("settings") > 0) respell_settings(db);
  if (kept.count("requests") == 0 && replaced.count("requests") == 0) fill_requests(db);
  db.exec("DROP TABLE variants_of_old");
  // Schemas 1 to 4 called the evaluation of snapshots so.
  db.exec("UPDATE stages SET name = 'snapshots' WHERE name = 'course'");

  SQLite::Statement broken(db, "PRAGMA foreign_key_check");
  if (broken.executeStep()) {
    throw StoreError(db.getFilename() + ": a row of " + broken.getColumn(0).getString() +
                     " refers to a row of " + broken.getColumn(2).getString() +
                     " that is not there; the file stays as it is");
  }
}

// Another connection reads while this one keeps writers out: it sees the file as it was.
std::filesystem::path keep_copy(const std::filesystem::path& file, std::int64_t version) {
  const auto stem = file.string() + ".v" + std::to_string(version) + "-backup";
  std::filesystem::path copy = stem;
  for (int number = 2; std::filesystem::exists(copy); ++number) {
    copy = stem + "-" + std::to_string(number);
  }
  const auto part = copy.string() + ".part";
  std::error_code ignored;
  std::filesystem::remove(part, ignored);
  copy_database(file, part);
  std::filesystem::rename(part, copy);
  return copy;
}

}  // namespace

std::optional<Migration> migrate(SQLite::Database& db, const std::filesystem::path& file) {
  // Neither can be set inside a transaction. Names in REFERENCES must stay as they are.
  db.exec("PRAGMA foreign_keys = OFF; PRAGMA legacy_alter_table = ON");
  std::optional<Migration> done;
  {
    SQLite::Transaction transaction(db, SQLite::TransactionBehavior::IMMEDIATE);
    const auto version = db.execAndGet("PRAGMA user_version").getInt64();
    if (version > 0 && version < kSchemaVersion) {
      // All that decides whether it can be done, before anything changes.
      require_tables(db, version, file);
      has_own_views(db, version, file);
      const auto copy = keep_copy(file, version);
      rebuild(db, version);
      db.exec("PRAGMA user_version = " + std::to_string(kSchemaVersion));
      done = Migration{version, kSchemaVersion, copy};
    }
    transaction.commit();
  }
  db.exec("PRAGMA legacy_alter_table = OFF; PRAGMA foreign_keys = ON");
  return done;
}

}  // namespace dkdm::results
