// The stages that an experiment needs, each once, with content keys; and the runs that read them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "config/experiment.hpp"
#include "record/artifact_store.hpp"
#include "record/records.hpp"
#include "run/cost.hpp"
#include "run/need.hpp"
#include "run/selection.hpp"
#include "stages/stage.hpp"

namespace dkdm::run {

struct PlannedRun {
  record::RunRecord record;
  // (name in the record, stage): in order of making. The key of the last is the run's.
  std::vector<std::pair<std::string, std::size_t>> stages;
  std::size_t sample_stage = 0, evaluate_stage = 0;
  std::optional<std::size_t> select_stage;  // where a rule chooses the step whose values count
  std::vector<std::size_t> outputs;  // what must be there when it is done: all else serves these
  std::vector<std::pair<std::string, std::string>> plugins;  // kind and name of those it uses
};

struct Plan {
  at::Device device = at::kCPU;       // where it is carried out
  std::vector<stages::Stage> stages;  // inputs before the stages that read them
  std::vector<PlannedRun> runs;
  // The cells that were asked for, whatever shard makes them: those of `runs` are among them.
  std::vector<record::RunRecord> asked;
  std::vector<Need> needs;  // files that are absent: where there are some, nothing can be run
};

// Whether a stage of this name in a run's record is the row's own work, as opposed to what it
// shares with other rows.
DKDM_API bool is_own_stage(const std::string& name);

// What making a plan does beside: the measurements that fill estimated_s, and those that fill
// footprints; a look at a teacher from elsewhere and warnings about settings, which one process of
// a command is to do; a list of what is absent in place of an error; what this machine could not
// hold, for somebody who asks what would.
struct PlanExtras {
  bool estimate = false, look = false, footprints = false, list_needs = false, any_machine = false;
};

// `store` must outlive the plan. Throws ConfigError for what cannot be made, and where files are
// absent DataError or Error (exit code 3) that names them all.
DKDM_API Plan make_plan(const config::Experiment& experiment, const Selection& selection,
                        const stages::StageContext& context, const record::ArtifactStore& store,
                        CostModel& cost, const PlanExtras& extras);

}  // namespace dkdm::run
