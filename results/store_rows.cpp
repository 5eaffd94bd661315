#include "results/store_rows.hpp"

namespace dkdm::results {
namespace {

const char* status_name(run::StageStatus status) {
  switch (status) {
    case run::StageStatus::done: return "done";
    case run::StageStatus::cached: return "cached";
    case run::StageStatus::failed: return "failed";
  }
  return "";
}

}  // namespace

void insert_settings(SQLite::Database& db, std::int64_t run, const Settings& settings) {
  SQLite::Statement insert(db, "INSERT INTO settings (run, key, value) VALUES (?, ?, ?)");
  for (const auto& [key, value] : settings) {
    insert.bind(1, run);
    insert.bind(2, key);
    std::visit([&](const auto& typed) { insert.bind(3, typed); }, value);
    insert.exec();
    insert.reset();
  }
}

void upsert_stage(SQLite::Database& db, std::int64_t run, const run::StageRecord& stage) {
  execute(db,
          "INSERT INTO stages (run, name, key, plugin, status, started, elapsed_s, artifact, "
          "bytes, steps, teacher_evaluations, flops, peak_bytes, error) "
          "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
          "ON CONFLICT (run, name) DO UPDATE SET key = excluded.key, plugin = excluded.plugin, "
          "status = excluded.status, started = excluded.started, "
          "elapsed_s = excluded.elapsed_s, artifact = excluded.artifact, "
          "bytes = excluded.bytes, steps = excluded.steps, "
          "teacher_evaluations = excluded.teacher_evaluations, flops = excluded.flops, "
          "peak_bytes = excluded.peak_bytes, error = excluded.error "
          "WHERE stages.status <> 'done' OR excluded.status = 'done'",
          run, stage.name, stage.key, stage.plugin, status_name(stage.status), stage.started,
          stage.elapsed_s, stage.artifact, stage.bytes, stage.steps, stage.teacher_evaluations,
          stage.flops, stage.peak_bytes, stage.error);
  int position = 0;
  for (const auto& [part, value] : stage.determined_by) {
    execute(db,
            "INSERT INTO determinants (stage_key, part, position, value) VALUES (?, ?, ?, ?) "
            "ON CONFLICT DO NOTHING",
            stage.key, part, position++, value);
  }
}

void insert_artifact(SQLite::Database& db, const run::ArtifactRecord& artifact) {
  execute(db,
          "INSERT INTO artifacts (key, kind, path, sha256, bytes, recorded) "
          "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
          artifact.key, artifact.kind, artifact.path, artifact.sha256, artifact.bytes,
          unix_seconds());
}

void insert_metrics(SQLite::Database& db, std::int64_t run,
                    const std::vector<run::MetricRecord>& metrics) {
  for (const auto& m : metrics) {
    execute(db,
            "INSERT INTO metrics (run, name, value, higher_is_better, unit, protocol, reference, "
            "sample_count, step, seed, weights, recorded) "
            "SELECT id, ?, ?, ?, ?, ?, ?, ?, ?, seed, ?, ? FROM runs WHERE id = ? "
            "ON CONFLICT DO NOTHING",
            m.name, m.value, static_cast<int>(m.higher_is_better), m.unit, m.protocol, m.reference,
            m.sample_count, m.step, m.weights, unix_seconds(), run);
  }
}

}  // namespace dkdm::results
