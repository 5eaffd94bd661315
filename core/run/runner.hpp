// Runs whatever stages of a plan are still needed, and records every run.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "run/plan.hpp"
#include "run/progress.hpp"
#include "run/run_host.hpp"

namespace dkdm::run {

struct RunOptions {
  bool force = false;      // make a run's own stages again; the earlier results are kept as well
  bool fail_fast = false;  // stop at the first failed run
  // Key of a stage that failed in an earlier process -> message: not tried again.
  std::map<std::string, std::string> failed_stages{};
};

struct RunSummary {
  std::int64_t done = 0, already_done = 0, failed = 0;
  bool interrupted = false;
  std::vector<std::string> failures{};  // of each failed run: "ROW, seed N, STAGE: MESSAGE"
};

// A run whose record is finished and whose artifacts are whole is left alone. A stage that fails is
// not tried again for the other runs that need it; they fail with its message. Interrupted ends the
// suite: the run under way is recorded as interrupted and continues with the next call.
DKDM_API RunSummary run_plan(const Plan& plan, stages::StageContext& context, RunHost& host,
                             record::ArtifactStore& store,
                             const std::vector<record::PluginRecord>& plugins,
                             const RunOptions& options);

// Stages of `plan` that some run needs and that are not there yet, in the order of making: a stage
// whose output is there needs none of its inputs.
DKDM_API std::vector<std::size_t> missing_stages(const Plan& plan,
                                                 const record::ArtifactStore& store);

// The picture of a run's first samples.
DKDM_API std::filesystem::path grid_file(const PlannedRun& run, const Plan& plan,
                                         const record::ArtifactStore& store);

}  // namespace dkdm::run
