// What an evaluator makes of its reference images, once.
#include "stages/determinants.hpp"
#include "stages/stages.hpp"

namespace dkdm::stages {
namespace {

// Of how the core hands images to evaluators.
constexpr int kRevision = 1;

}  // namespace

record::KeyParts evaluator_parts(const plugin::PluginChoice& choice, const std::string& identity,
                                 const std::string& reference) {
  auto parts = first_parts(StageKind::evaluator, kRevision);
  parts.emplace_back("evaluator", identity.empty()
                                      ? describe(choice)
                                      : choice.name + " " + choice.version + "\n" + identity);
  parts.emplace_back("dataset", reference);
  return parts;
}

Stage evaluator_stage(const plugin::PluginChoice& choice, const std::string& identity,
                      const Reference& reference) {
  Stage stage;
  stage.kind = StageKind::evaluator;
  stage.label = "prepare the evaluator";
  stage.plugin = choice.name;
  stage.parts = evaluator_parts(choice, identity, reference.fingerprint());
  // Evaluators do not say what they cost; this is the desk-scale classifier's order of magnitude.
  stage.estimated_s = 25;
  stage.work = [choice, reference](StageContext& context, const std::filesystem::path& folder,
                                   record::Manifest&) {
    fill_reference(*context.registry.evaluator(choice, context.host), choice, reference, folder);
  };
  return stage;
}

void add_evaluator(const EvaluatorInput& evaluator, record::KeyParts& parts) {
  parts.emplace_back("evaluator", evaluator.prepared.key);
  if (!evaluator.parameters.empty()) parts.emplace_back("parameters", evaluator.parameters);
}

}  // namespace dkdm::stages
