// Evaluation of a network's samples: on the way, or of a set that is on disk. The values are the
// same.
#include <ATen/ATen.h>

#include <algorithm>

#include "record/clock.hpp"
#include "record/metrics_file.hpp"
#include "stages/feed.hpp"
#include "stages/npz_images.hpp"
#include "stages/stages.hpp"
#include "stages/streaming_evaluation.hpp"

namespace dkdm::stages {
namespace {

namespace fs = std::filesystem;

// Of what the core does between samples and metrics.
constexpr int kRevision = 1;

}  // namespace

void evaluate_drawn(StageContext& context, const Evaluation& evaluation, const TrainedModel& model,
                    const SamplingSpec& spec, record::Manifest samples, const fs::path& folder,
                    record::Manifest& manifest) {
  const auto evaluator = open_evaluator(context, evaluation, spec.count);
  const auto unfinished = folder / "unfinished.safetensors";
  StreamingEvaluation streaming(context.host, *evaluator, model, spec, unfinished);
  streaming.run();
  const auto start = record::Clock::now();
  record::write_metrics(folder, finish(*evaluator, evaluation, spec.count));
  manifest.elapsed_s = streaming.evaluating_s() + record::seconds_since(start);
  manifest.steps = spec.count;
  write_grid(folder, streaming.first_images());
  samples.steps = spec.count;
  samples.elapsed_s = streaming.sampling_s();
  samples.flops = sampling_flops(model, spec);
  record::write_manifest(folder / record::kSamplesManifest, samples);
  manifest.outputs = {record::kMetricsFile, kGridFile, record::kSamplesManifest};
  fs::remove(unfinished);
}

void evaluate_saved(StageContext& context, const Evaluation& evaluation,
                    const fs::path& samples_folder, const fs::path& folder,
                    record::Manifest& manifest) {
  record::check_contents(samples_folder, {kSamplesFile});
  const NpzImages samples(samples_folder / kSamplesFile);
  const auto count = samples.size();
  const auto evaluator = open_evaluator(context, evaluation, count);
  add_images(*evaluator, samples, 0, count, context.host);
  record::write_metrics(folder, finish(*evaluator, evaluation, count));
  write_grid(folder, samples.images(at::arange(std::min(count, kGridImages), at::kLong)));
  manifest.steps = count;
  manifest.outputs = {record::kMetricsFile, kGridFile};
}

Stage evaluate_stage(const std::string& row, const EvaluatedNetwork& network,
                     const SamplingSpec& spec, const Stage& sample, const EvaluatorInput& evaluator,
                     const record::ArtifactStore& store) {
  const bool on_disk = !sample.streamed || sample.find(store);
  Stage stage;
  stage.kind = StageKind::evaluate;
  stage.label = (on_disk ? "evaluate " : "sample and evaluate ") + row;
  stage.plugin = evaluator.choice.name;
  stage.parts = first_parts(stage.kind, kRevision);
  stage.parts.emplace_back("samples", sample.key);
  add_evaluator(evaluator, stage.parts);
  constexpr double kMetricsSeconds = 1;
  stage.estimated_s = kMetricsSeconds + (on_disk ? 0 : sample.estimated_s);
  record::Manifest drawn;
  drawn.stage = name_of(sample.kind);
  drawn.key = sample.key;
  drawn.parts = sample.parts;
  const Evaluation evaluation{evaluator.choice, evaluator.prepared.folder, network.weights,
                              network.steps};
  stage.work = [network, spec, evaluation, drawn, store = &store](
                   StageContext& context, const fs::path& folder, record::Manifest& manifest) {
    if (store->find(drawn.stage, drawn.key)) {
      evaluate_saved(context, evaluation, store->path(drawn.stage, drawn.key), folder, manifest);
    } else {
      evaluate_drawn(context, evaluation, network.load(context), spec, drawn, folder, manifest);
    }
  };
  return stage;
}

}  // namespace dkdm::stages
