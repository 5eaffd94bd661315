// The stages that make a network: of a teacher, of a student, and what those learn from.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "config/experiment.hpp"
#include "run/plan.hpp"
#include "run/row_costs.hpp"
#include "run/sources.hpp"
#include "run/stage_list.hpp"
#include "stages/stages.hpp"

namespace dkdm::run {

// How a row's teacher is trained; none where it is from elsewhere. The row has a teacher.
inline const std::optional<config::Training>& trained_teacher(const config::Row& row) {
  return row.teacher.value().training;
}

// References outlive it.
class TrainingStages {
 public:
  TrainingStages(const stages::StageContext& context, Sources& sources, RowCosts& costs,
                 const PlanExtras& extras, StageList& list)
      : context_(context), sources_(sources), costs_(costs), extras_(extras), list_(list) {}

  // The row's teacher: trained here (a stage that `chain` gets) or found by its plugin. `teaches`:
  // a student learns its steps. Throws ConfigError for one whose training needs a teacher itself.
  stages::NetworkSource teacher(const config::Row& row, StageChain& chain, bool teaches = false);

  // The stage that trains as `training` says; `chain` gets those before it. Throws ConfigError
  // where the method needs a teacher and the row has none.
  std::size_t train(const config::Row& row, const config::Training& training, std::int64_t seed,
                    const std::string& label, StageChain& chain,
                    const train::SnapshotPolicy& snapshots = {});

  // Throws ConfigError where a teacher from elsewhere that a row was given here draws other images
  // than the row's, or, where a student learns its steps, of another process. Loads them.
  void check_teachers(const config::Experiment& experiment);

 private:
  std::size_t synthetic(const config::Row& row, StageChain& chain);
  std::size_t prepare(const stages::TrainingJob& job, const stages::TrainingInputs& inputs,
                      const Method& method, const stages::ImageCosts& costs, const config::Row& row,
                      const NetworkBytes& teacher, double held, const StageChain& before);
  std::string learned_images(const config::Row& row, const Needs& needs);

  const stages::StageContext& context_;
  Sources& sources_;
  RowCosts& costs_;
  const PlanExtras extras_;
  StageList& list_;
  struct ExternalUse {
    const config::Row* row;
    bool teaches;
  };
  std::vector<ExternalUse> external_uses_;
};

}  // namespace dkdm::run
