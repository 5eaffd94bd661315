// The other database is attached as `other`, as a copy of the present schema.
#include "results/admin/merge.hpp"

#include <algorithm>

#include "dkdm/error.hpp"
#include "dkdm/store_error.hpp"
#include "results/admin/archive.hpp"
#include "results/store/artifacts.hpp"
#include "results/store/database.hpp"
#include "results/store/import.hpp"
#include "results/store/scratch.hpp"

namespace dkdm::results {
namespace {

namespace fs = std::filesystem;

struct Step {
  std::string table, sql;
};

// In this order what a row refers to is there before it. `taken` has the runs to take, theirs and,
// when they are there, ours; `taken_keys` the stage keys; `taken_requests` the commands; `present`
// the artifacts that are on this disk: others are not recorded, nobody could find them here.
const std::vector<Step>& steps() {
  static const std::vector<Step> kSteps = {
      {"experiments",
       "INSERT INTO experiments (name, title, table_shape, published_section, scale, file) "
       "SELECT name, title, table_shape, published_section, scale, file FROM other.experiments "
       "WHERE id IN (SELECT experiment FROM other.runs JOIN taken ON theirs = id UNION "
       "SELECT experiment FROM other.requests WHERE id IN taken_requests) ORDER BY id "
       "ON CONFLICT DO NOTHING"},
      {"runs",
       "INSERT INTO runs (uid, experiment, key, samples, variant, row, label, row_order, seed, "
       "method, student, teacher, teacher_key, dataset, evaluator, published_row, parameters, "
       "created, created_iso, config) "
       "SELECT r.uid, e.id, r.key, r.samples, r.variant, r.row, r.label, r.row_order, r.seed, "
       "r.method, r.student, r.teacher, r.teacher_key, r.dataset, r.evaluator, r.published_row, "
       "r.parameters, r.created, r.created_iso, r.config "
       "FROM other.runs r JOIN taken t ON t.theirs = r.id "
       "JOIN other.experiments o ON o.id = r.experiment "
       "JOIN main.experiments e ON e.name = o.name AND e.title = o.title AND "
       "e.table_shape = o.table_shape AND e.published_section = o.published_section AND "
       "e.scale = o.scale AND e.file = o.file WHERE true ORDER BY r.id ON CONFLICT DO NOTHING"},
      {"",
       "UPDATE taken SET ours = (SELECT m.id FROM main.runs m JOIN other.runs o ON "
       "o.uid = m.uid WHERE o.id = theirs)"},
      // A row and seed that has a pinned run here keeps it.
      {"pins",
       "INSERT INTO pins (run, note, pinned, pinned_iso) SELECT t.ours, p.note, p.pinned, "
       "p.pinned_iso FROM other.pins p JOIN taken t ON t.theirs = p.run "
       "JOIN main.runs r ON r.id = t.ours JOIN main.experiments e ON e.id = r.experiment "
       "WHERE NOT EXISTS (SELECT 1 FROM main.pins m JOIN main.runs o ON o.id = m.run "
       "JOIN main.experiments x ON x.id = o.experiment WHERE x.name = e.name AND o.row = r.row AND "
       "o.seed = r.seed) ON CONFLICT DO NOTHING"},
      {"configs",
       "INSERT INTO configs (config) SELECT config FROM other.configs WHERE id IN (SELECT config "
       "FROM other.request_cells WHERE request IN taken_requests) ORDER BY id "
       "ON CONFLICT DO NOTHING"},
      {"requests",
       "INSERT INTO requests (uid, experiment, command, host, recorded, recorded_iso) "
       "SELECT q.uid, e.id, q.command, q.host, q.recorded, q.recorded_iso FROM other.requests q "
       "JOIN other.experiments o ON o.id = q.experiment "
       "JOIN main.experiments e ON e.name = o.name AND e.title = o.title AND "
       "e.table_shape = o.table_shape AND e.published_section = o.published_section AND "
       "e.scale = o.scale AND e.file = o.file WHERE q.id IN taken_requests ORDER BY q.id "
       "ON CONFLICT DO NOTHING"},
      {"request_cells",
       "INSERT INTO request_cells (request, position, row, label, row_order, seed, key, samples, "
       "variant, method, published_row, config) SELECT m.id, c.position, c.row, c.label, "
       "c.row_order, c.seed, c.key, c.samples, c.variant, c.method, c.published_row, k.id "
       "FROM other.request_cells c JOIN other.requests q ON q.id = c.request "
       "JOIN main.requests m ON m.uid = q.uid JOIN other.configs o ON o.id = c.config "
       "JOIN main.configs k ON k.config = o.config WHERE q.id IN taken_requests "
       "ON CONFLICT DO NOTHING"},
      {"settings",
       "INSERT INTO settings (run, key, value, number) SELECT ours, key, value, number "
       "FROM other.settings JOIN taken ON theirs = run WHERE true ON CONFLICT DO NOTHING"},
      {"environments",
       "INSERT INTO environments (host, os, cpu, cpu_features, gpu, device, driver, libtorch, "
       "compiler, dkdm_version, git_revision, git_dirty, cores, threads, threads_reason, "
       "memory_bytes, repeatable) "
       "SELECT host, os, cpu, cpu_features, gpu, device, driver, libtorch, compiler, dkdm_version, "
       "git_revision, git_dirty, cores, threads, threads_reason, memory_bytes, repeatable "
       "FROM other.environments "
       "WHERE id IN (SELECT environment FROM other.attempts JOIN taken ON theirs = run) "
       "ORDER BY id ON CONFLICT DO NOTHING"},
      // An attempt that was under way, or given up for dead, when this file was copied has since
      // ended.
      {"attempts (ends)",
       "UPDATE main.attempts SET ended = o.ended, ended_iso = o.ended_iso, status = o.status, stage = o.stage, "
       "message = o.message FROM other.attempts o JOIN taken t ON t.theirs = o.run "
       "WHERE main.attempts.run = t.ours AND main.attempts.host = o.host AND "
       "main.attempts.pid = o.pid AND main.attempts.started = o.started AND "
       "(main.attempts.ended IS NULL AND o.ended IS NOT NULL OR "
       "main.attempts.status = 'running' AND o.status <> 'running')"},
      {"attempts",
       "INSERT INTO attempts (run, environment, host, pid, process, started, started_iso, ended, "
       "ended_iso, status, stage, message) SELECT t.ours, e.id, a.host, a.pid, a.process, "
       "a.started, a.started_iso, a.ended, a.ended_iso, a.status, a.stage, a.message FROM other.attempts a JOIN taken t ON t.theirs = a.run "
       "JOIN other.environments o ON o.id = a.environment "
       "JOIN main.environments e ON e.host = o.host AND e.os = o.os AND e.cpu = o.cpu AND "
       "e.cpu_features = o.cpu_features AND e.gpu = o.gpu AND e.device = o.device AND "
       "e.driver = o.driver AND e.repeatable = o.repeatable AND e.libtorch = o.libtorch AND "
       "e.compiler = o.compiler AND e.dkdm_version = o.dkdm_version AND "
       "e.git_revision = o.git_revision AND e.git_dirty = o.git_dirty AND e.cores = o.cores AND "
       "e.threads = o.threads AND e.threads_reason = o.threads_reason AND e.memory_bytes = o.memory_bytes "
       "WHERE NOT EXISTS (SELECT 1 FROM main.attempts m WHERE m.run = t.ours AND "
       "m.host = a.host AND m.pid = a.pid AND m.started = a.started) ORDER BY a.id"},
      {"plugins",
       "INSERT INTO plugins (kind, name, version, summary, file) SELECT kind, name, version, "
       "summary, file FROM other.plugins WHERE id IN (SELECT plugin FROM other.attempt_plugins u "
       "JOIN other.attempts a ON a.id = u.attempt JOIN taken ON theirs = a.run) ORDER BY id "
       "ON CONFLICT DO NOTHING"},
      {"attempt_plugins",
       "INSERT INTO attempt_plugins (attempt, plugin) SELECT m.id, p.id "
       "FROM other.attempt_plugins u JOIN other.attempts a ON a.id = u.attempt "
       "JOIN taken t ON t.theirs = a.run JOIN main.attempts m ON m.run = t.ours AND "
       "m.host = a.host AND m.pid = a.pid AND m.started = a.started "
       "JOIN other.plugins o ON o.id = u.plugin JOIN main.plugins p ON p.kind = o.kind AND "
       "p.name = o.name AND p.version = o.version AND p.summary = o.summary AND "
       "p.file = o.file WHERE true ON CONFLICT DO NOTHING"},
      {"stages",
       "INSERT INTO stages (run, name, key, plugin, status, started, started_iso, elapsed_s, "
       "artifact, bytes, steps, teacher_evaluations, flops, teacher_s, held_bytes, peak_bytes, "
       "device_peak_bytes, graphs, error) SELECT t.ours, name, key, plugin, status, started, started_iso, "
       "elapsed_s, artifact, bytes, steps, teacher_evaluations, flops, teacher_s, held_bytes, "
       "peak_bytes, device_peak_bytes, graphs, error "
       "FROM other.stages JOIN taken t ON t.theirs = run WHERE true "
       "ON CONFLICT (run, name) DO UPDATE SET key = excluded.key, plugin = excluded.plugin, "
       "status = excluded.status, started = excluded.started, "
       "started_iso = excluded.started_iso, elapsed_s = excluded.elapsed_s, "
       "artifact = excluded.artifact, bytes = excluded.bytes, steps = excluded.steps, "
       "teacher_evaluations = excluded.teacher_evaluations, flops = excluded.flops, "
       "teacher_s = excluded.teacher_s, held_bytes = excluded.held_bytes, "
       "peak_bytes = excluded.peak_bytes, device_peak_bytes = excluded.device_peak_bytes, "
       "graphs = excluded.graphs, error = excluded.error WHERE stages.status = 'failed' AND excluded.status <> 'failed' OR "
       "stages.status = 'cached' AND excluded.status = 'done'"},
      {"determinants",
       "INSERT INTO determinants (stage_key, part, position, value) SELECT stage_key, part, "
       "position, value FROM other.determinants WHERE stage_key IN taken_keys "
       "ON CONFLICT DO NOTHING"},
      {"metrics",
       "INSERT INTO metrics (run, name, value, higher_is_better, unit, protocol, reference, "
       "sample_count, step, seed, weights, recorded, recorded_iso) SELECT t.ours, name, value, "
       "higher_is_better, unit, protocol, reference, sample_count, step, seed, weights, recorded, "
       "recorded_iso "
       "FROM other.metrics m JOIN taken t ON t.theirs = m.run WHERE true ORDER BY m.id "
       "ON CONFLICT DO NOTHING"},
      {"selections",
       "INSERT INTO selections (run, rule, step, last_step, candidates, by_value, by_protocol, "
       "by_reference, by_sample_count, by_weights) SELECT t.ours, rule, step, last_step, candidates, "
       "by_value, by_protocol, by_reference, by_sample_count, by_weights FROM other.selections "
       "JOIN taken t ON t.theirs = run WHERE true ON CONFLICT DO NOTHING"},
      {"curves",
       "INSERT INTO curves (stage_key, name, step, value) SELECT stage_key, name, step, value "
       "FROM other.curves WHERE stage_key IN taken_keys ON CONFLICT DO NOTHING"},
      {"artifacts",
       "INSERT INTO artifacts (key, kind, path, sha256, bytes, recorded, recorded_iso) SELECT key, "
       "kind, path, sha256, bytes, recorded, recorded_iso FROM other.artifacts o WHERE key IN taken_keys AND "
       "path IN present AND NOT EXISTS (SELECT 1 FROM main.artifacts m WHERE m.path = o.path) ORDER BY id"}};
  return kSteps;
}

// What both have and that differs, one line each. Asked before anything is added.
std::vector<std::string> row_conflicts(SQLite::Database& db) {
  constexpr const char* kSql =
      "SELECT 'run ' || m.id || ' has another key or configuration there' FROM main.runs m "
      "JOIN other.runs o USING (uid) JOIN taken ON theirs = o.id "
      "WHERE m.key <> o.key OR m.config <> o.config "
      "UNION ALL SELECT 'stage ' || m.name || ' of run ' || m.run || ' has another key there' "
      "FROM main.stages m JOIN main.runs r ON r.id = m.run JOIN other.runs p USING (uid) "
      "JOIN taken ON theirs = p.id JOIN other.stages o ON o.run = p.id AND o.name = m.name "
      "WHERE o.key <> m.key "
      "UNION ALL SELECT 'the key ' || m.stage_key || ' is the hash of another ' || m.part || "
      "' there' FROM main.determinants m JOIN other.determinants o USING (stage_key, part) "
      "WHERE m.value <> o.value AND stage_key IN taken_keys "
      "UNION ALL SELECT 'curve ' || m.name || ' of stage ' || m.stage_key || ' differs in ' || "
      "count(*) || ' points' FROM main.curves m JOIN other.curves o USING (stage_key, name, step) "
      "WHERE m.value IS NOT o.value AND stage_key IN taken_keys GROUP BY stage_key, m.name "
      "UNION ALL SELECT o.path || ' has another content there' "
      "FROM other.artifacts o WHERE o.key IN taken_keys AND o.id = (SELECT max(id) FROM "
      "other.artifacts WHERE path = o.path) AND EXISTS (SELECT 1 FROM main.artifacts WHERE "
      "path = o.path) AND o.sha256 NOT IN (SELECT sha256 FROM main.artifacts WHERE path = o.path)";
  std::vector<std::string> conflicts;
  SQLite::Statement rows(db, kSql);
  while (rows.executeStep()) conflicts.push_back(rows.getColumn(0).getString());
  return conflicts;
}

// run 0 = all.
void take(SQLite::Database& db, std::int64_t run) {
  db.exec(
      "CREATE TEMP TABLE taken (theirs INTEGER PRIMARY KEY, ours INTEGER);"
      "CREATE TEMP TABLE taken_keys (key TEXT PRIMARY KEY) WITHOUT ROWID;"
      "CREATE TEMP TABLE taken_requests (id INTEGER PRIMARY KEY);"
      "CREATE TEMP TABLE present (path TEXT PRIMARY KEY) WITHOUT ROWID");
  execute(db, "INSERT INTO taken SELECT id, NULL FROM other.runs WHERE ?1 IN (0, id)", run);
  // One run goes without the commands that asked for others too.
  execute(db, "INSERT INTO taken_requests SELECT id FROM other.requests WHERE ?1 = 0", run);
  execute(db,
          "INSERT INTO taken_keys SELECT key FROM other.stages JOIN taken ON theirs = run "
          "UNION SELECT key FROM other.runs JOIN taken ON theirs = id "
          // Of a run that is not finished the curve is there before the stage.
          "UNION SELECT stage_key FROM other.curves WHERE ?1 = 0 GROUP BY stage_key "
          "UNION SELECT key FROM other.artifacts WHERE ?1 = 0",
          run);
}

void add_rows(SQLite::Database& db, MergeReport& report) {
  for (const auto& step : steps()) {
    const auto changed = db.exec(step.sql);
    if (!step.table.empty()) report.added.emplace_back(step.table, changed);
  }
  db.exec("DROP TABLE taken; DROP TABLE taken_keys; DROP TABLE taken_requests; DROP TABLE present");
}

// The source as a database of the present schema that nobody writes, and the root of its artifacts.
struct Opened {
  fs::path database, root;
};

Opened open_source(const fs::path& source, const fs::path& scratch) {
  std::error_code error;
  fs::path file = source;
  if (fs::is_directory(source, error)) {
    file = source / "results.sqlite";
  } else if (!fs::exists(source, error)) {
    throw DataError(source.string(),
                    "no such file; expected a results.sqlite, a folder that holds "
                    "one, or an archive of `dkdm runs export`");
  } else if (source.extension() == ".tar") {
    unpack_archive(source, scratch);
    file = scratch / "results.sqlite";
    if (!fs::exists(file, error)) {
      throw StoreError(source.string() +
                       ": holds no results.sqlite; expected what `dkdm runs export` "
                       "writes");
    }
  }
  const auto copy = scratch / "copy.sqlite";
  import_database(file, copy, file == scratch / "results.sqlite" ? source : fs::path());
  const auto root = file.parent_path();
  return {copy, root.empty() ? fs::path(".") : root};
}

// Folders come before the rows that name them.
void copy_artifacts(SQLite::Database& db, const fs::path& from, const fs::path& to,
                    MergeReport& report) {
  std::int64_t copied = 0;
  SQLite::Statement named(db, "SELECT 1 FROM taken_keys WHERE key = ?");
  for (const auto& artifact : list_artifacts(from)) {
    named.reset();
    named.bind(1, artifact.key);
    if (artifact.set_aside() || !named.executeStep()) continue;
    const auto ours = find_artifact(to, artifact.kind, artifact.key);
    const bool both = ours && ours->manifest && artifact.manifest;
    if (both && ours->manifest->sha256 == artifact.manifest->sha256) {
      execute(db, "INSERT INTO present VALUES (?)", artifact.path);
    } else if (ours) {
      report.conflicts.push_back(artifact.path + " has another content there");
    } else if (const auto damage = damage_of(from, artifact, true); !damage.empty()) {
      report.damaged.push_back(artifact.path + " is damaged there and was not copied: " + damage);
    } else {
      copy_artifact(from, to, artifact);
      execute(db, "INSERT INTO present VALUES (?)", artifact.path);
      ++copied;
    }
  }
  report.added.emplace_back("artifact folders", copied);
}

}  // namespace

std::int64_t MergeReport::total() const {
  std::int64_t total = 0;
  for (const auto& [table, count] : added) total += count;
  return total;
}

MergeReport merge_database(const fs::path& file, const fs::path& root, const fs::path& source) {
  const Scratch scratch(root / "work");
  const auto opened = open_source(source, scratch.path());
  Database database(file, OpenMode::write);
  database.attach(opened.database, "other");
  MergeReport report;
  // Copying may take long: meanwhile others may write.
  database.read([&](SQLite::Database& db) {
    take(db, 0);
    report.conflicts = row_conflicts(db);
    copy_artifacts(db, opened.root, root, report);
  });
  database.write([&](SQLite::Database& db) { add_rows(db, report); });
  auto& conflicts = report.conflicts;  // a changed artifact is seen on disk and on record
  std::sort(conflicts.begin(), conflicts.end());
  conflicts.erase(std::unique(conflicts.begin(), conflicts.end()), conflicts.end());
  return report;
}

void extract_run(const fs::path& file, std::int64_t run, const fs::path& target) {
  const auto copy = target.string() + ".copy";
  copy_database(file, copy);
  {
    Database database(target, OpenMode::write);
    database.attach(copy, "other");
    database.write([&](SQLite::Database& db) {
      MergeReport report;
      take(db, run);
      db.exec("INSERT OR IGNORE INTO present SELECT path FROM other.artifacts");
      add_rows(db, report);
    });
    database.close_log();
  }
  fs::remove(copy);
}

}  // namespace dkdm::results
