#include "run/evaluation_stages.hpp"

#include <algorithm>

namespace dkdm::run {
namespace {

bool draws_other_images(const config::Row& row) { return row.evaluate.text("samples") == "other"; }

// Whether the evaluations on the way are of the images that are drawn at the end.
bool same_images(const config::Row& row) {
  const auto count = row.evaluate.integer("count");
  return !draws_other_images(row) && (count == 0 || count == row.sample.integer("count"));
}

}  // namespace

stages::SamplingSpec sampling_spec(const config::Row& row, std::int64_t seed) {
  return stages::sampling_spec(row.sample, row.sample.integer("count"),
                               record::derive_seed(seed, "sample"));
}

train::SnapshotPolicy snapshots_of(const config::Row& row) {
  const auto every = row.evaluate.integer("every");
  if (every >= row.training->train.integer("steps"))
    return {};  // the last step is always evaluated
  return {every, row.sample.text("weights"), {}};
}

bool selects(const config::Row& row) {
  return row.training && !config::selecting_metric(row.training->train).empty();
}

EvaluationStages::Evaluating& EvaluationStages::evaluating(const config::Row& row) {
  const auto& reference = sources_.reference(row);
  const auto& identity = sources_.evaluator_identity(row);
  auto& made =
      evaluators_[{row.evaluator.name + '\n' + row.evaluator.params.canonical(), &reference}];
  if (!made.stage) {
    made.identity = identity;
    made.stage = stages::evaluator_stage(row.evaluator, made.identity, reference);
  }
  return made;
}

std::size_t EvaluationStages::evaluator(const config::Row& row) {
  return list_.add(*evaluating(row).stage, {});
}

stages::EvaluatorInput EvaluationStages::input(const config::Row& row, std::size_t evaluator) {
  return {row.evaluator, evaluating(row).identity.empty() ? "" : row.evaluator.params.canonical(),
          list_.output_of(evaluator)};
}

std::size_t EvaluationStages::sample(const config::Row& row, const Evaluated& made,
                                     const stages::SamplingSpec& spec) {
  auto stage = stages::sample_stage(row.id, made.network, row.diffusion, spec);
  stage.streamed = !row.sample.flag("save");
  if (extras_.footprints) {
    stage.footprint =
        sampling_footprint(costs_.evaluated_bytes(row), sources_.spec(row), spec, !stage.streamed);
    stage.footprint.remedy = drawing_remedy("sample", row.sample);
  }
  return list_.add(std::move(stage), made.inputs);
}

std::size_t EvaluationStages::evaluate(const config::Row& row, const Evaluated& made,
                                       const stages::SamplingSpec& spec, std::size_t samples,
                                       std::size_t evaluator) {
  const auto& sample = list_[samples];
  auto inputs = sample.streamed && !list_.is_there(samples) ? made.inputs : std::vector{samples};
  inputs.push_back(evaluator);
  auto stage = stages::evaluate_stage(row.id, made.network, spec, sample, input(row, evaluator),
                                      list_.store());
  if (sample.streamed) stage.footprint = sample.footprint;
  return list_.add(std::move(stage), std::move(inputs));
}

// The evaluation at the end is one of them, made again only where it had another number of images.
std::size_t EvaluationStages::snapshots(const config::Row& row, const Evaluated& made,
                                        stages::SamplingSpec spec, std::int64_t seed,
                                        std::size_t evaluate, std::size_t evaluator) {
  const auto every = row.evaluate.integer("every");
  std::vector<std::int64_t> steps;
  for (auto step = every; step < made.network.steps; step += every) steps.push_back(step);
  if (!same_images(row)) steps.push_back(made.network.steps);
  if (const auto count = row.evaluate.integer("count"); count > 0) spec.count = count;
  const bool other = draws_other_images(row);
  if (other) spec.seed = record::derive_seed(seed, "evaluate");
  auto inputs = made.inputs;
  inputs.push_back(evaluator);
  auto stage = stages::snapshots_stage(row.id, made.network, row.diffusion, spec, steps,
                                       list_.key(evaluate), input(row, evaluator), other);
  take_memory(list_[evaluate].footprint, stage.footprint);
  return list_.add(std::move(stage), std::move(inputs));
}

// Before anything is trained, where the evaluator says what it gives.
void EvaluationStages::require_metric(const config::Row& row) const {
  const std::string metric = config::selecting_metric(row.training->train);
  const auto given = context_.registry.evaluator(row.evaluator, context_.host)->metrics();
  if (given.empty() || std::find(given.begin(), given.end(), metric) != given.end()) return;
  std::string names;
  for (const auto& name : given) names += (names.empty() ? "" : ", ") + name;
  throw ConfigError(row.where, "row \"" + row.id + "\": train.select = \"best:" + metric +
                                   "\": the evaluator " + row.evaluator.name + " gives " + names);
}

std::size_t EvaluationStages::select(const config::Row& row, const Evaluated& made,
                                     const stages::SamplingSpec& spec, std::size_t evaluate,
                                     std::size_t evaluator, std::size_t snapshots) {
  require_metric(row);
  const stages::Selecting selecting{
      config::selecting_metric(row.training->train),
      made.network.source.folder,
      list_.output_of(snapshots).folder,
      list_.output_of(evaluate).folder,
      spec,
      {row.evaluator, list_.output_of(evaluator).folder, made.network.weights, made.network.steps},
      same_images(row),
      row.sample.flag("save")};
  auto inputs = made.inputs;
  inputs.insert(inputs.end(), {evaluator, evaluate, snapshots});
  auto stage = stages::select_stage(row.id, made.network, row.diffusion, selecting,
                                    list_.key(snapshots), list_.key(evaluate));
  take_memory(list_[evaluate].footprint, stage.footprint);
  return list_.add(std::move(stage), std::move(inputs));
}

}  // namespace dkdm::run
