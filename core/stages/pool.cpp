// What a method prepares before training, once for every student that learns from it: a batch set.
#include <algorithm>

#include "stages/determinants.hpp"
#include "stages/method_inputs.hpp"
#include "stages/stages.hpp"

namespace dkdm::stages {
namespace {

namespace fs = std::filesystem;

// Of the teacher's steps on the batch set and the random numbers of its rows.
constexpr int kRevision = 1;

// A plan that was far off should not surprise twice.
void compare_with_announced(Host& host, const std::string& method, std::int64_t announced,
                            std::int64_t made) {
  if (made <= 2 * announced && announced <= 2 * made) return;
  host.log(method, "announced " + std::to_string(announced) + " teacher evaluations and made " +
                       std::to_string(made) + ": the plan's estimate was of the former");
}

void prepare(StageContext& context, const TrainingJob& job, const TrainingInputs& inputs,
             const fs::path& folder, record::Manifest& manifest) {
  const auto method = context.registry.method(job.training.method, context.host);
  const bool fresh = fs::is_empty(folder);
  const MethodInputs loaded(context, job, inputs, *method);
  method->prepare(loaded.context(), folder);
  const auto announced =
      method->preparation_evaluations(job.diffusion, job.training.train.integer("batch"));
  // Of an attempt that was killed nothing is known but what was announced.
  const auto made = loaded.work();
  manifest.teacher_evaluations = fresh ? made.evaluations : std::max(made.evaluations, announced);
  if (fresh) manifest.teacher_s = made.seconds;
  if (fresh)
    compare_with_announced(context.host, job.training.method.name, announced, made.evaluations);
  manifest.flops = loaded.teacher_flops(manifest.teacher_evaluations);
}

// An identity that says what prepared it stands for the plugin's name and version too: methods of
// one base class share what it prepares.
std::string maker_of(const plugin::PluginChoice& choice, const std::string& identity) {
  if (identity.empty()) return describe(choice);
  if (identity.starts_with("prepared by ")) return identity;
  return choice.name + " " + choice.version + "\n" + identity;
}

}  // namespace

Stage pool_stage(const TrainingJob& job, const TrainingInputs& inputs, const Method& method,
                 const ImageCosts& costs) {
  const auto& choice = job.training.method;
  const auto batch = job.training.train.integer("batch");
  const std::string identity = method.preparation_identity(job.diffusion, batch);
  Stage stage;
  stage.kind = StageKind::pool;
  stage.label = "prepare " + choice.name;
  stage.plugin = choice.name;
  stage.parts = first_parts(stage.kind, kRevision);
  stage.parts.emplace_back("method", maker_of(choice, identity));
  stage.parts.emplace_back("teacher", inputs.teacher.value().identity);
  add_teacher_precision(job.training.train, stage.parts);
  stage.parts.emplace_back("diffusion", describe(job.diffusion));
  stage.parts.emplace_back("image", text_of(job.shape));
  stage.parts.emplace_back("batch", std::to_string(batch));
  stage.parts.emplace_back("seed", std::to_string(job.seed));
  stage.estimated_s =
      double(method.preparation_evaluations(job.diffusion, batch)) * costs.teacher_s;
  stage.work = [job, inputs](StageContext& context, const fs::path& folder,
                             record::Manifest& manifest) {
    prepare(context, job, inputs, folder, manifest);
  };
  return stage;
}

}  // namespace dkdm::stages
