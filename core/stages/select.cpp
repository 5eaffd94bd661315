// The choice among the weights that a training kept: of the evaluated steps the one whose values
// count.
#include <algorithm>
#include <cmath>
#include <set>

#include "model/model_folder.hpp"
#include "record/metrics_file.hpp"
#include "stages/determinants.hpp"
#include "stages/feed.hpp"
#include "stages/npz_images.hpp"
#include "stages/stages.hpp"

namespace dkdm::stages {
namespace {

namespace fs = std::filesystem;
using record::MetricRecord;

// Of the rule, and of what is made of the chosen step.
constexpr int kRevision = 1;

// Of equals the earliest.
const MetricRecord& best_of(const std::vector<MetricRecord>& evaluated, const std::string& metric) {
  const MetricRecord* best = nullptr;
  std::set<std::string> given;
  for (const auto& candidate : evaluated) {
    given.insert(candidate.name);
    if (candidate.name != metric || !std::isfinite(candidate.value)) continue;
    const double gain =
        best == nullptr ? 1
                        : (candidate.value - best->value) * (candidate.higher_is_better ? 1 : -1);
    if (gain > 0 || (gain == 0 && candidate.step < best->step)) best = &candidate;
  }
  if (best != nullptr) return *best;
  std::string names;
  for (const auto& name : given) names += (names.empty() ? "" : ", ") + name;
  throw Error("train.select = \"best:" + metric + "\": no evaluated step has a finite " + metric +
              "; the evaluator gives " + names);
}

std::vector<MetricRecord> at_step(const std::vector<MetricRecord>& metrics, std::int64_t step) {
  std::vector<MetricRecord> chosen;
  std::copy_if(metrics.begin(), metrics.end(), std::back_inserter(chosen),
               [&](const MetricRecord& metric) { return metric.step == step; });
  return chosen;
}

// Draws the images of the chosen step as far as they are wanted: all where they are kept or have
// not been evaluated yet, else those of the picture. Writes the values where the course has none.
void take_images(StageContext& context, const Selecting& selecting, std::int64_t step,
                 const fs::path& folder, record::Manifest& manifest) {
  auto evaluation = selecting.evaluation;
  evaluation.step = step;
  auto spec = selecting.spec;
  const auto model =
      context.host.load_model(model::kept_folder(selecting.trained, step), evaluation.weights);
  if (selecting.save) {
    draw_samples(context.host, model, spec, folder, manifest);
    if (selecting.same_images) return;
    const auto evaluator = open_evaluator(context, evaluation, spec.count);
    add_images(*evaluator, NpzImages(folder / kSamplesFile), 0, spec.count, context.host);
    record::write_metrics(folder, finish(*evaluator, evaluation, spec.count));
  } else if (selecting.same_images) {
    // An image depends on its number alone, whatever is drawn beside it.
    spec.count = std::min(spec.count, kGridImages);
    write_grid(folder, sample_images(context.host, model, spec));
  } else {
    evaluate_drawn(context, evaluation, model, spec, {}, folder, manifest);
    manifest.elapsed_s = 0;  // of the evaluation alone: the drawing is this stage's, too
  }
  manifest.flops = sampling_flops(model, spec);
}

}  // namespace

void select_step(StageContext& context, const Selecting& selecting, const fs::path& folder,
                 record::Manifest& manifest) {
  const auto at_end = record::read_metrics(selecting.evaluated);
  auto course = record::read_metrics(selecting.snapshots);
  if (selecting.same_images) course.insert(course.end(), at_end.begin(), at_end.end());
  const auto& evaluation = selecting.evaluation;
  record::SelectionRecord selection;
  selection.rule = "best:" + selecting.metric;
  selection.by = best_of(course, selecting.metric);
  selection.step = selection.by.step;
  selection.last_step = evaluation.step;
  selection.candidates = std::count_if(course.begin(), course.end(), [&](const auto& candidate) {
    return candidate.name == selecting.metric;
  });
  context.host.log("select", selection.rule + ": step " + std::to_string(selection.step) + " of " +
                                 std::to_string(selection.last_step));
  std::vector<std::string> outputs{record::kMetricsFile, record::kSelectionFile};
  if (selection.step == selection.last_step) {
    record::write_metrics(folder, at_end);
  } else {
    take_images(context, selecting, selection.step, folder, manifest);
    if (selecting.same_images) record::write_metrics(folder, at_step(course, selection.step));
    outputs.emplace_back(kGridFile);
    if (selecting.save) outputs.emplace_back(kSamplesFile);
  }
  manifest.outputs = std::move(outputs);
  record::write_selection(folder, selection);
}

Stage select_stage(const std::string& row, const EvaluatedNetwork& network,
                   const DiffusionConfig& diffusion, const Selecting& selecting,
                   const std::string& snapshots, const std::string& evaluate) {
  Stage stage;
  stage.kind = StageKind::select;
  stage.label = "choose the step of " + row;
  stage.plugin = selecting.evaluation.evaluator.name;
  stage.parts = first_parts(stage.kind, kRevision);
  stage.parts.emplace_back("rule", "best:" + selecting.metric);
  if (selecting.save) stage.parts.emplace_back("images", "kept");
  stage.parts.emplace_back("snapshots", snapshots);
  stage.parts.emplace_back("evaluate", evaluate);
  auto drawn = selecting.spec;
  if (selecting.same_images && !selecting.save) drawn.count = std::min(drawn.count, kGridImages);
  stage.estimated_s = double(sampling_evaluations(diffusion, drawn)) * network.forward_s;
  stage.work = [selecting](StageContext& context, const fs::path& folder,
                           record::Manifest& manifest) {
    select_step(context, selecting, folder, manifest);
  };
  return stage;
}

}  // namespace dkdm::stages
