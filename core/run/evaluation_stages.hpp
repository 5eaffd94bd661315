// The stages that draw from a row's network and evaluate it: at the end, along its training, and
// the choice among those steps.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "config/experiment.hpp"
#include "run/plan.hpp"
#include "run/row_costs.hpp"
#include "run/sources.hpp"
#include "run/stage_list.hpp"
#include "stages/stages.hpp"

namespace dkdm::run {

// The network that a row evaluates, and the stages that make it.
struct Evaluated {
  stages::EvaluatedNetwork network;
  std::vector<std::size_t> inputs;
};

// How a row's samples are drawn at a seed.
stages::SamplingSpec sampling_spec(const config::Row& row, std::int64_t seed);

// What a row's training keeps to be evaluated afterwards. The row trains.
train::SnapshotPolicy snapshots_of(const config::Row& row);

// Whether a rule chooses the step whose values count.
bool selects(const config::Row& row);

// References outlive it. `spec` is that of sampling_spec.
class EvaluationStages {
 public:
  EvaluationStages(const stages::StageContext& context, Sources& sources, RowCosts& costs,
                   const PlanExtras& extras, StageList& list)
      : context_(context), sources_(sources), costs_(costs), extras_(extras), list_(list) {}

  // What the evaluator makes of the row's reference.
  std::size_t evaluator(const config::Row& row);
  std::size_t sample(const config::Row& row, const Evaluated& made,
                     const stages::SamplingSpec& spec);
  std::size_t evaluate(const config::Row& row, const Evaluated& made,
                       const stages::SamplingSpec& spec, std::size_t samples,
                       std::size_t evaluator);
  // The evaluations on the way, where the training keeps weights for them.
  std::size_t snapshots(const config::Row& row, const Evaluated& made, stages::SamplingSpec spec,
                        std::int64_t seed, std::size_t evaluate, std::size_t evaluator);
  // Throws ConfigError where the evaluator does not give the metric that decides.
  std::size_t select(const config::Row& row, const Evaluated& made,
                     const stages::SamplingSpec& spec, std::size_t evaluate, std::size_t evaluator,
                     std::size_t snapshots);

 private:
  // The same for every run with this evaluator and these images.
  struct Evaluating {
    std::string identity;
    std::optional<stages::Stage> stage;
  };
  Evaluating& evaluating(const config::Row& row);
  stages::EvaluatorInput input(const config::Row& row, std::size_t evaluator);
  void require_metric(const config::Row& row) const;

  const stages::StageContext& context_;
  Sources& sources_;
  RowCosts& costs_;
  const PlanExtras extras_;
  StageList& list_;
  // By the evaluator and its reference.
  std::map<std::pair<std::string, const stages::Reference*>, Evaluating> evaluators_;
};

}  // namespace dkdm::run
