// The results database as a run sees it: every fact of record::Recorder is one committed
// transaction.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/record/records.hpp"
#include "dkdm/error.hpp"
#include "results/store/migration.hpp"

namespace dkdm::results {

class Database;

// What a call has returned from survives the end of the process, however it ends. Several stores
// (threads, processes) may write to one file at once. Every call throws StoreError, with SQLite's
// code, when the file cannot be read or written; what was recorded before is then intact.
class Store final : public record::Recorder {
 public:
  // Opens `file` for writing, with its folder and schema made where missing. Runs whose process on
  // this host is gone are marked crashed. busy_timeout_ms: longest wait for another process's lock,
  // in this and every later call. An older schema is brought up to date. Throws StoreError; refuses
  // a file of a newer dkdm or of another program.
  explicit Store(const std::filesystem::path& file, int busy_timeout_ms = 30'000);
  ~Store() override;

  // What was done to an older file when it was opened.
  std::optional<Migration> migration() const;

  // Repeat what is finished: `finished_run` finds nothing and `begin_run` always makes a new row.
  void set_force(bool force) { force_ = force; }

  // Keeps that a command asks for cells of `experiment` (whose row is not looked at). A report
  // without a file shows what the last one asked for. Returns its number.
  std::int64_t begin_request(const record::RunRecord& experiment, const std::string& command);
  // In the order of their table; a cell that is there already is kept.
  void add_to_request(std::int64_t request, const std::vector<record::RunRecord>& cells);

  std::optional<std::int64_t> finished_run(const record::RunRecord& run) override;
  // Continues the latest run of this key, experiment, row and seed that is not done, unless a
  // living process (or one on another host) is at work on it; else makes a new row.
  std::int64_t begin_run(const record::RunRecord& run, const record::EnvironmentRecord& environment,
                         const std::vector<record::PluginRecord>& plugins) override;
  // Kept as the running attempt's stage and message.
  void begin_stage(std::int64_t run, const std::string& name, const std::string& key,
                   const std::string& plugin) override;
  void end_run(std::int64_t run, const std::string& status, const std::string& stage,
               const std::string& message) override;
  void record_stage(std::int64_t run, const record::StageRecord& stage) override;
  void record_artifact(const record::ArtifactRecord& artifact) override;
  void record_metrics(std::int64_t run, const std::vector<record::MetricRecord>& metrics) override;
  void record_selection(std::int64_t run, const record::SelectionRecord& selection) override;
  void record_curves(const std::string& stage_key,
                     const std::vector<record::CurvePoint>& points) override;

 private:
  std::unique_ptr<Database> database_;
  bool force_ = false;
};

}  // namespace dkdm::results
