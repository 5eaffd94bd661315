// Evaluation of the weights that a training kept on its way.
#include "dkdm/documents.hpp"
#include "dkdm/files.hpp"
#include "dkdm/json.hpp"
#include "io/checkpoint/work_file.hpp"
#include "model/model_folder.hpp"
#include "record/metrics_file.hpp"
#include "stages/determinants.hpp"
#include "stages/stages.hpp"
#include "stages/streaming_evaluation.hpp"

namespace dkdm::stages {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

// Of what the core does between weights and metrics: the samplers too (stages/sample.cpp).
constexpr int kRevision = 1;

// What the evaluation of one step's weights gave, on its way into the metrics of all steps.
struct StepValues {
  std::vector<record::MetricRecord> metrics;
  double elapsed_s = 0, flops = 0;
};

void write_step(const fs::path& file, const StepValues& values) {
  Json json = {{"metrics", record::to_json(values.metrics)},
               {"elapsed_s", values.elapsed_s},
               {"flops", values.flops}};
  json["checksum"] = io::sha256(json.dump());
  io::write_text(file, json.dump(2) + "\n");
}

// Nothing when it is not there or is not what was written: then it is made again.
std::optional<StepValues> read_step(const fs::path& file, Host& host) {
  if (!fs::exists(file)) return std::nullopt;
  try {
    auto json = Json::parse(io::read_document(file));
    const auto checksum = io::as<std::string>(json.at("checksum"));
    json.erase("checksum");
    if (io::sha256(json.dump()) == checksum)
      return StepValues{record::metrics_of(json.at("metrics")),
                        io::as<double>(json.at("elapsed_s")), io::as<double>(json.at("flops"))};
  } catch (const Json::exception&) {
    // Damaged as any other.
  } catch (const DataError&) {
  }
  host.log("evaluate", io::set_aside(file, file.string() + ": is not what was written") +
                           "; this step is evaluated again");
  return std::nullopt;
}

}  // namespace

void evaluate_snapshots(StageContext& context, const Evaluation& evaluation,
                        const fs::path& trained, const std::vector<std::int64_t>& steps,
                        const SamplingSpec& spec, const fs::path& folder,
                        record::Manifest& manifest) {
  const auto last = model::read_model_description(trained, context.registry).steps;
  const auto evaluator = open_evaluator(context, evaluation, spec.count);
  StepValues all;
  for (const auto step : steps) {
    // Each step's values are kept, so that a kill costs the one under way alone.
    const auto file = folder / ("step-" + std::to_string(step) + ".json");
    auto done = read_step(file, context.host);
    if (!done) {
      context.host.log("evaluate", "the weights of step " + std::to_string(step));
      const auto model = context.host.load_model(
          step == last ? trained : model::kept_folder(trained, step), evaluation.weights);
      auto of_step = evaluation;
      of_step.step = step;
      const auto unfinished = folder / ("step-" + std::to_string(step) + ".safetensors");
      StreamingEvaluation streaming(context.host, *evaluator, model, spec, unfinished);
      streaming.run();
      done = StepValues{finish(*evaluator, of_step, spec.count),
                        streaming.sampling_s() + streaming.evaluating_s(),
                        sampling_flops(model, spec)};
      write_step(file, *done);
      fs::remove(unfinished);
    }
    all.metrics.insert(all.metrics.end(), done->metrics.begin(), done->metrics.end());
    all.elapsed_s += done->elapsed_s;
    all.flops += done->flops;
  }
  record::write_metrics(folder, all.metrics);
  manifest.outputs = {record::kMetricsFile};
  manifest.elapsed_s = all.elapsed_s;
  manifest.flops = all.flops;
  manifest.steps = std::int64_t(steps.size()) * spec.count;
}

Stage snapshots_stage(const std::string& row, const EvaluatedNetwork& network,
                      const DiffusionConfig& diffusion, const SamplingSpec& spec,
                      const std::vector<std::int64_t>& steps, const std::string& evaluate,
                      const EvaluatorInput& evaluator, bool other_images) {
  Stage stage;
  stage.kind = StageKind::snapshots;
  stage.label = "evaluate " + row + " as it trained";
  stage.plugin = evaluator.choice.name;
  stage.parts = first_parts(stage.kind, kRevision);
  stage.parts.emplace_back("network", network.source.identity);
  stage.parts.emplace_back("steps", to_text(Value(steps)));
  stage.parts.emplace_back("diffusion", describe(diffusion));
  stage.parts.emplace_back("sampling", describe(spec));
  add_evaluator(evaluator, stage.parts);
  stage.parts.emplace_back("evaluate", evaluate);
  constexpr double kMetricsSeconds = 1;
  stage.estimated_s =
      double(steps.size()) *
      (kMetricsSeconds + double(sampling_evaluations(diffusion, spec)) * network.forward_s);
  const Evaluation evaluation{evaluator.choice, evaluator.prepared.folder, network.weights, 0,
                              other_images};
  stage.work = [evaluation, steps, spec, trained = network.source.folder](
                   StageContext& context, const fs::path& folder, record::Manifest& manifest) {
    evaluate_snapshots(context, evaluation, trained, steps, spec, folder, manifest);
  };
  return stage;
}

}  // namespace dkdm::stages
