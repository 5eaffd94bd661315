#include "results/admin/export.hpp"

#include <algorithm>
#include <set>

#include "core/io/atomic_file.hpp"
#include "dkdm/store_error.hpp"
#include "results/admin/archive.hpp"
#include "results/admin/merge.hpp"
#include "results/query/runs.hpp"
#include "results/store/artifacts.hpp"
#include "results/store/database.hpp"
#include "results/store/scratch.hpp"

namespace dkdm::results {
namespace {

namespace fs = std::filesystem;

struct StageKey {
  std::string name, artifact;
};

std::vector<StageKey> stages_of(const fs::path& file, std::int64_t run) {
  return Database(file, OpenMode::read).read([&](SQLite::Database& db) {
    std::vector<StageKey> stages;
    SQLite::Statement rows(db,
                           "SELECT name, artifact FROM stages WHERE run = ? AND "
                           "status <> 'failed' AND artifact <> '' ORDER BY started, name");
    rows.bind(1, run);
    while (rows.executeStep()) {
      stages.push_back({rows.getColumn(0).getString(), rows.getColumn(1).getString()});
    }
    return stages;
  });
}

}  // namespace

void export_run(const fs::path& file, const fs::path& root, std::int64_t run,
                const fs::path& archive, const ExportOptions& options) {
  const auto detail = run_detail(file, run);  // refuses a run that is not there
  const auto stages = stages_of(file, run);
  const Scratch scratch(root / "work");
  extract_run(file, run, scratch.path() / "results.sqlite");
  io::AtomicFile config(scratch.path() / "config.toml");
  config.write(detail.config);
  config.commit();
  std::vector<ArchiveEntry> entries = {{"results.sqlite", scratch.path() / "results.sqlite"},
                                       {"config.toml", scratch.path() / "config.toml"}};

  const bool trained = std::any_of(stages.begin(), stages.end(),
                                   [](const StageKey& stage) { return stage.name == "train"; });
  std::set<std::string> wanted = {trained ? "train" : "teacher", "sample", "evaluate", "snapshots",
                                  "select"};
  for (const auto& stage : stages) {
    if (!options.everything && wanted.count(stage.name) == 0) continue;
    const fs::path path(stage.artifact);
    const auto artifact =
        find_artifact(root, path.parent_path().filename(), path.filename().string());
    const bool recorded = artifact && artifact->path == path;
    const auto damage = recorded ? damage_of(root, *artifact, false) : "it is missing";
    if (!damage.empty()) {
      throw StoreError((root / path).string() + ": cannot be exported: " + damage +
                       "; `dkdm db check` says more");
    }
    entries.push_back({stage.artifact + "/manifest.json", root / path / "manifest.json"});
    for (const auto& one : artifact->manifest->files) {
      entries.push_back({stage.artifact + "/" + one.name, root / path / one.name});
    }
  }
  write_archive(archive, entries);
}

}  // namespace dkdm::results
