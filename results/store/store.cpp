// Writing facts.
#include "results/store/store.hpp"

#include <unistd.h>

#include "core/record/process.hpp"
#include "dkdm/store_error.hpp"
#include "record/clock.hpp"
#include "results/store/database.hpp"
#include "results/store/store_rows.hpp"

namespace dkdm::results {
namespace {

constexpr const char* kSameRun =
    "experiment = ? AND key = ? AND row = ? AND seed = ? ORDER BY run DESC";

std::optional<std::int64_t> find_finished(SQLite::Database& db, const record::RunRecord& run) {
  SQLite::Statement find(
      db, std::string("SELECT run FROM run_status WHERE status = 'done' AND ") + kSameRun);
  bind_all(find, run.experiment, run.key, run.row, run.seed);
  if (!find.executeStep()) return std::nullopt;
  return find.getColumn(0).getInt64();
}

std::optional<std::int64_t> find_unfinished(SQLite::Database& db, const record::RunRecord& run) {
  SQLite::Statement find(
      db, std::string("SELECT run, status, host, pid FROM run_status WHERE status <> 'done' AND ") +
              kSameRun);
  bind_all(find, run.experiment, run.key, run.row, run.seed);
  while (find.executeStep()) {
    const bool running = find.getColumn(1).getString() == "running";
    const bool here = find.getColumn(2).getString() == record::host_name();
    const auto pid = find.getColumn(3).getInt64();
    const bool taken =
        running && (!here || (pid != getpid() && !record::process_token(pid).empty()));
    if (!taken) return find.getColumn(0).getInt64();
  }
  return std::nullopt;
}

const std::string& samples_of(const record::RunRecord& run) {
  return run.samples.empty() ? run.key : run.samples;
}

std::string variant_of(const record::RunRecord& run, const Settings& settings) {
  return run.variant.empty() ? variant_of_settings(settings) : run.variant;
}

std::int64_t insert_run(SQLite::Database& db, const record::RunRecord& run) {
  const auto settings = settings_of(run.config, run.row);
  const double now = record::unix_time();
  execute(db,
          "INSERT INTO runs (uid, experiment, key, samples, variant, row, label, row_order, seed, "
          "method, student, teacher, teacher_key, dataset, evaluator, published_row, config, "
          "parameters, created, created_iso) "
          "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
          new_uid(), intern_experiment(db, run), run.key, samples_of(run),
          variant_of(run, settings), run.row, run.label, run.row_order, run.seed, run.method,
          run.student, run.teacher, run.teacher_key, run.dataset, run.evaluator, run.published_row,
          run.config, run.parameters, now, iso_time(now));
  const auto id = db.getLastInsertRowid();
  insert_settings(db, id, settings);
  return id;
}

void require_run(SQLite::Database& db, const std::filesystem::path& file, std::int64_t run) {
  SQLite::Statement find(db, "SELECT 1 FROM runs WHERE id = ?");
  find.bind(1, run);
  if (!find.executeStep()) {
    throw StoreError(file.string() + ": there is no run " + std::to_string(run));
  }
}

}  // namespace

Store::Store(const std::filesystem::path& file, int busy_timeout_ms)
    : database_(std::make_unique<Database>(file, OpenMode::write, busy_timeout_ms)) {}

Store::~Store() = default;

std::optional<Migration> Store::migration() const { return database_->migration(); }

std::int64_t Store::begin_request(const record::RunRecord& experiment, const std::string& command) {
  return database_->write([&](SQLite::Database& db) {
    const double now = record::unix_time();
    execute(db,
            "INSERT INTO requests (uid, experiment, command, host, recorded, recorded_iso) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            new_uid(), intern_experiment(db, experiment), command, record::host_name(), now,
            iso_time(now));
    return db.getLastInsertRowid();
  });
}

void Store::add_to_request(std::int64_t request, const std::vector<record::RunRecord>& cells) {
  database_->write([&](SQLite::Database& db) {
    SQLite::Statement last(
        db, "SELECT coalesce(max(position) + 1, 0) FROM request_cells WHERE request = ?");
    last.bind(1, request);
    last.executeStep();
    auto position = last.getColumn(0).getInt64();
    for (const auto& cell : cells) {
      const auto config = intern(db, "configs", {"config"}, cell.config);
      execute(db,
              "INSERT INTO request_cells (request, position, row, label, row_order, seed, key, "
              "samples, variant, method, published_row, config) "
              "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
              request, position++, cell.row, cell.label, cell.row_order, cell.seed, cell.key,
              samples_of(cell), variant_of(cell, settings_of(cell.config, cell.row)), cell.method,
              cell.published_row, config);
    }
  });
}

std::optional<std::int64_t> Store::finished_run(const record::RunRecord& run) {
  if (force_) return std::nullopt;
  return database_->read([&](SQLite::Database& db) { return find_finished(db, run); });
}

std::int64_t Store::begin_run(const record::RunRecord& run,
                              const record::EnvironmentRecord& environment,
                              const std::vector<record::PluginRecord>& plugins) {
  return database_->write([&](SQLite::Database& db) {
    const auto unfinished = force_ ? std::nullopt : find_unfinished(db, run);
    const auto id = unfinished ? *unfinished : insert_run(db, run);
    execute(db,
            "UPDATE attempts SET status = 'crashed', message = "
            "iif(message = '', '', message || ': ') || 'ended without a message' "
            "WHERE run = ? AND status = 'running'",
            id);
    const auto& e = environment;
    const auto environment_id =
        intern(db, "environments",
               {"host", "os", "cpu", "cpu_features", "gpu", "device", "driver", "libtorch",
                "compiler", "dkdm_version", "git_revision", "git_dirty", "cores", "threads",
                "threads_reason", "memory_bytes", "repeatable"},
               e.host, e.os, e.cpu, e.cpu_features, e.gpu, e.device, e.driver, e.libtorch,
               e.compiler, e.dkdm_version, e.git_revision, static_cast<int>(e.git_dirty), e.cores,
               e.threads, e.threads_reason, e.memory_bytes, static_cast<int>(e.repeatable));
    const std::int64_t pid = getpid();
    const double now = record::unix_time();
    execute(db,
            "INSERT INTO attempts (run, environment, host, pid, process, started, started_iso, "
            "status) VALUES (?, ?, ?, ?, ?, ?, ?, 'running')",
            id, environment_id, record::host_name(), pid, record::process_token(pid), now,
            iso_time(now));
    const auto attempt = db.getLastInsertRowid();
    for (const auto& plugin : plugins) {
      const auto plugin_id =
          intern(db, "plugins", {"kind", "name", "version", "summary", "file"}, plugin.kind,
                 plugin.name, plugin.version, plugin.summary, plugin.file);
      execute(db,
              "INSERT INTO attempt_plugins (attempt, plugin) VALUES (?, ?) "
              "ON CONFLICT DO NOTHING",
              attempt, plugin_id);
    }
    return id;
  });
}

void Store::begin_stage(std::int64_t run, const std::string& name, const std::string&,
                        const std::string& plugin) {
  database_->write([&](SQLite::Database& db) {
    execute(db,
            "UPDATE attempts SET stage = ?, message = ? "
            "WHERE id = (SELECT max(id) FROM attempts WHERE run = ?)",
            name, plugin.empty() ? "" : "plugin " + plugin, run);
  });
}

void Store::end_run(std::int64_t run, const std::string& status, const std::string& stage,
                    const std::string& message) {
  database_->write([&](SQLite::Database& db) {
    require_run(db, database_->file(), run);
    const double now = record::unix_time();
    execute(db,
            "UPDATE attempts SET status = ?, stage = ?, message = ?, ended = ?, ended_iso = ? "
            "WHERE id = (SELECT max(id) FROM attempts WHERE run = ?)",
            status, stage, message, now, iso_time(now), run);
  });
}

void Store::record_stage(std::int64_t run, const record::StageRecord& stage) {
  database_->write([&](SQLite::Database& db) {
    require_run(db, database_->file(), run);
    upsert_stage(db, run, stage);
  });
}

void Store::record_artifact(const record::ArtifactRecord& artifact) {
  database_->write([&](SQLite::Database& db) { insert_artifact(db, artifact); });
}

void Store::record_metrics(std::int64_t run, const std::vector<record::MetricRecord>& metrics) {
  database_->write([&](SQLite::Database& db) {
    require_run(db, database_->file(), run);
    insert_metrics(db, run, metrics);
  });
}

void Store::record_selection(std::int64_t run, const record::SelectionRecord& selection) {
  database_->write([&](SQLite::Database& db) {
    require_run(db, database_->file(), run);
    insert_selection(db, run, selection);
  });
}

void Store::record_curves(const std::string& stage_key,
                          const std::vector<record::CurvePoint>& points) {
  database_->write([&](SQLite::Database& db) {
    SQLite::Statement insert(db,
                             "INSERT INTO curves (stage_key, name, step, value) "
                             "VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING");
    for (const auto& point : points) {
      bind_all(insert, stage_key, point.name, point.step, point.value);
      insert.exec();
      insert.reset();
    }
  });
}

}  // namespace dkdm::results
