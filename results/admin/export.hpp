// A run in one file, for another machine.
#pragma once

#include <cstdint>
#include <filesystem>

namespace dkdm::results {

struct ExportOptions {
  // Also what the run shares with others and what can be made again from its record: the teacher,
  // the pool, the synthetic set, the evaluator.
  bool everything = false;
};

// Writes run `run` as a tar archive: results.sqlite with the run alone (configuration, environment,
// stages, metrics, curves), config.toml, and its artifacts (trained network, samples, evaluation).
// merge_database takes it. `root` is the artifact store's; a missing or damaged artifact is an
// error that names it. Throws StoreError.
void export_run(const std::filesystem::path& file, const std::filesystem::path& root,
                std::int64_t run, const std::filesystem::path& archive,
                const ExportOptions& options = {});

}  // namespace dkdm::results
