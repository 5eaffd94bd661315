// A network's samples, where they are kept on disk; the synthetic set is the teacher's.
#include "stages/determinants.hpp"
#include "stages/stages.hpp"

namespace dkdm::stages {
namespace {

namespace fs = std::filesystem;

// Of the samplers, the noise that they begin with, and the rounding to uint8.
constexpr int kRevision = 1;

}  // namespace

TrainedModel EvaluatedNetwork::load(const StageContext& context) const {
  return source.folder.empty() ? source.load(context)
                               : context.host.load_model(source.folder, weights);
}

Stage sample_stage(const std::string& row, const EvaluatedNetwork& network,
                   const DiffusionConfig& diffusion, const SamplingSpec& spec) {
  Stage stage;
  stage.kind = StageKind::sample;
  stage.label = "sample " + row;
  stage.parts = first_parts(stage.kind, kRevision);
  stage.parts.emplace_back("network", network.source.identity);
  stage.parts.emplace_back("weights", network.weights);
  stage.parts.emplace_back("diffusion", describe(diffusion));
  stage.parts.emplace_back("sampling", describe(spec));
  stage.estimated_s = double(sampling_evaluations(diffusion, spec)) * network.forward_s;
  stage.work = [network, spec](StageContext& context, const fs::path& folder,
                               record::Manifest& manifest) {
    draw_samples(context.host, network.load(context), spec, folder, manifest);
  };
  return stage;
}

Stage synthetic_stage(const NetworkSource& teacher, const DiffusionConfig& diffusion,
                      const SamplingSpec& spec, const ImageCosts& costs) {
  Stage stage;
  stage.kind = StageKind::synthetic;
  stage.label = "draw the synthetic set";
  stage.plugin = teacher.teacher.name;
  stage.parts = first_parts(stage.kind, kRevision);
  stage.parts.emplace_back("teacher", teacher.identity);
  stage.parts.emplace_back("diffusion", describe(diffusion));
  stage.parts.emplace_back("sampling", describe(spec));
  const auto evaluations = sampling_evaluations(diffusion, spec);
  stage.estimated_s = double(evaluations) * costs.teacher_s;
  stage.work = [teacher, spec, evaluations](StageContext& context, const fs::path& folder,
                                            record::Manifest& manifest) {
    draw_samples(context.host, teacher.load(context), spec, folder, manifest);
    manifest.teacher_evaluations = evaluations;
  };
  return stage;
}

}  // namespace dkdm::stages
