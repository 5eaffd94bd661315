#include "results/store/store_rows.hpp"

#include <openssl/evp.h>

#include <array>
#include <cstdio>
#include <random>

#include "record/clock.hpp"

namespace dkdm::results {
namespace {

const char* status_name(record::StageStatus status) {
  switch (status) {
    case record::StageStatus::done: return "done";
    case record::StageStatus::cached: return "cached";
    case record::StageStatus::failed: return "failed";
  }
  return "";
}

}  // namespace

std::int64_t intern_experiment(SQLite::Database& db, const record::RunRecord& run) {
  return intern(db, "experiments",
                {"name", "title", "table_shape", "published_section", "scale", "file"},
                run.experiment, run.title, run.table, run.published_section, run.scale, run.file);
}

std::string new_uid() {
  std::random_device random;
  std::array<char, 33> text{};
  std::snprintf(text.data(), text.size(), "%08x%08x%08x%08x", random(), random(), random(),
                random());
  return text.data();
}

std::string variant_of_text(const std::string& text) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  EVP_Digest(text.data(), text.size(), digest.data(), &size, EVP_sha256(), nullptr);
  std::string hex;
  for (unsigned int i = 0; i < 12; ++i) {
    std::array<char, 3> pair{};
    std::snprintf(pair.data(), pair.size(), "%02x", digest[i]);
    hex += pair.data();
  }
  return hex;
}

std::string variant_of_settings(const Settings& settings) {
  std::string text;
  for (const auto& [key, value] : settings) {
    if (key.starts_with("evaluator.") || key.starts_with("evaluate.")) continue;
    text += key + " = " + to_text(value) + "\n";
  }
  return variant_of_text(text);
}

void insert_settings(SQLite::Database& db, std::int64_t run, const Settings& settings) {
  SQLite::Statement insert(db,
                           "INSERT INTO settings (run, key, value, number) VALUES (?, ?, ?, ?)");
  for (const auto& [key, value] : settings) {
    bind_all(insert, run, key, to_text(value), number_of(value));
    insert.exec();
    insert.reset();
  }
}

void upsert_stage(SQLite::Database& db, std::int64_t run, const record::StageRecord& stage) {
  execute(
      db,
      "INSERT INTO stages (run, name, key, plugin, status, started, started_iso, elapsed_s, "
      "artifact, bytes, steps, teacher_evaluations, flops, teacher_s, held_bytes, peak_bytes, "
      "device_peak_bytes, graphs, error) "
      "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
      "ON CONFLICT (run, name) DO UPDATE SET key = excluded.key, plugin = excluded.plugin, "
      "status = excluded.status, started = excluded.started, "
      "started_iso = excluded.started_iso, elapsed_s = excluded.elapsed_s, artifact = excluded.artifact, "
      "bytes = excluded.bytes, steps = excluded.steps, "
      "teacher_evaluations = excluded.teacher_evaluations, flops = excluded.flops, "
      "teacher_s = excluded.teacher_s, held_bytes = excluded.held_bytes, "
      "peak_bytes = excluded.peak_bytes, device_peak_bytes = excluded.device_peak_bytes, "
      "graphs = excluded.graphs, error = excluded.error "
      "WHERE stages.status <> 'done' OR excluded.status = 'done'",
      run, stage.name, stage.key, stage.plugin, status_name(stage.status), stage.started,
      iso_time(stage.started), stage.elapsed_s, stage.artifact, stage.bytes, stage.steps,
      stage.teacher_evaluations, stage.flops, stage.teacher_s, stage.held_bytes, stage.peak_bytes,
      stage.device_peak_bytes, stage.graphs, stage.error);
  int position = 0;
  for (const auto& [part, value] : stage.determined_by) {
    execute(db,
            "INSERT INTO determinants (stage_key, part, position, value) VALUES (?, ?, ?, ?) "
            "ON CONFLICT DO NOTHING",
            stage.key, part, position++, value);
  }
}

void insert_artifact(SQLite::Database& db, const record::ArtifactRecord& artifact) {
  const double now = record::unix_time();
  execute(db,
          "INSERT INTO artifacts (key, kind, path, sha256, bytes, recorded, recorded_iso) "
          "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
          artifact.key, artifact.kind, artifact.path, artifact.sha256, artifact.bytes, now,
          iso_time(now));
}

void insert_metrics(SQLite::Database& db, std::int64_t run,
                    const std::vector<record::MetricRecord>& metrics) {
  const double now = record::unix_time();
  for (const auto& m : metrics) {
    execute(db,
            "INSERT INTO metrics (run, name, value, higher_is_better, unit, protocol, reference, "
            "sample_count, step, seed, weights, recorded, recorded_iso) "
            "SELECT id, ?, ?, ?, ?, ?, ?, ?, ?, seed, ?, ?, ? FROM runs WHERE id = ? "
            "ON CONFLICT DO NOTHING",
            m.name, m.value, static_cast<int>(m.higher_is_better), m.unit, m.protocol, m.reference,
            m.sample_count, m.step, m.weights, now, iso_time(now), run);
  }
}

void insert_selection(SQLite::Database& db, std::int64_t run,
                      const record::SelectionRecord& selection) {
  const auto& by = selection.by;
  execute(db, "DELETE FROM selections WHERE run = ?", run);
  execute(db,
          "INSERT INTO selections (run, rule, step, last_step, candidates, by_value, by_protocol, "
          "by_reference, by_sample_count, by_weights) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
          run, selection.rule, selection.step, selection.last_step, selection.candidates, by.value,
          by.protocol, by.reference, by.sample_count, by.weights);
}

}  // namespace dkdm::results
