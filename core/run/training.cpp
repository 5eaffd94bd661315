// Training stages: the teacher, a method's preparation, a student.
#include "dkdm/io.hpp"
#include "nn/flops.hpp"
#include "run/environment.hpp"
#include "run/model_folder.hpp"
#include "run/stage_work.hpp"
#include "train/trainer.hpp"

namespace dkdm::run {
namespace {

// Keeps what a method's context points to.
struct LoadedInputs {
  std::optional<TrainedModel> teacher;
  std::shared_ptr<Dataset> synthetic;
};

MethodContext method_context(Bench& bench, const TrainingJob& job, const TrainingInputs& inputs,
                             const Needs& needs, LoadedInputs& loaded) {
  if (needs.teacher) loaded.teacher = inputs.teacher.value().load(bench);
  if (needs.synthetic) loaded.synthetic = open_samples(inputs.synthetic);
  return {bench.host,
          job.diffusion,
          job.spec,
          job.training.train.integer("batch"),
          derive_seed(job.seed, "method"),
          loaded.teacher ? &*loaded.teacher : nullptr,
          needs.dataset ? bench.dataset.get() : nullptr,
          loaded.synthetic.get()};
}

// A backward costs two forwards: the gradients of the input and of the weights.
constexpr double kForwardsPerExample = 3;

// Of the parameters that every distillation method has (dkdm/distillation.hpp), one that is off.
std::string stability_hint(const Params& method) {
  const auto clip = method.values().find("student_clip");
  return clip != method.values().end() && clip->second == Value(false) ? "student_clip = true" : "";
}

double teacher_flops(const LoadedInputs& loaded, std::int64_t evaluations) {
  if (!loaded.teacher) return 0;
  return double(evaluations) *
         double(nn::forward_flops(*loaded.teacher->network, loaded.teacher->spec));
}

}  // namespace

TrainedModel TeacherSource::load(const Bench& bench) const {
  if (folder.empty()) return bench.registry.teacher(choice, bench.host)->load();
  auto values = choice.params.values();
  values["path"] = folder.string();
  plugin::PluginChoice at_folder = choice;
  at_folder.params = Params(bench.registry.find("teacher", choice.name).params, values);
  return bench.registry.teacher(at_folder, bench.host)->load();
}

void prepare_method(Bench& bench, const TrainingJob& job, const TrainingInputs& inputs,
                    const std::filesystem::path& folder, Manifest& manifest) {
  const auto method = bench.registry.method(job.training.method, bench.host);
  LoadedInputs loaded;
  method->prepare(method_context(bench, job, inputs, method->needs(), loaded), folder);
  manifest.teacher_evaluations =
      method->preparation_evaluations(job.diffusion, job.training.train.integer("batch"));
  manifest.flops = teacher_flops(loaded, manifest.teacher_evaluations);
}

void train_student(Bench& bench, const TrainingJob& job, const TrainingInputs& inputs,
                   const std::filesystem::path& folder, Manifest& manifest) {
  const auto method = bench.registry.method(job.training.method, bench.host);
  LoadedInputs loaded;
  method->start(method_context(bench, job, inputs, method->needs(), loaded), inputs.pool);

  const auto student =
      bench.registry.student(job.training.student, {job.spec, job.diffusion},
                             derive_seed(job.seed, "initialise"));
  to_channels_last(*student);
  auto kept = job.kept;
  kept.keep = [&](std::int64_t step, const TensorMap& weights) {
    const auto at_step = kept_folder(folder, step);
    std::filesystem::create_directories(at_step);
    io::save_tensors(at_step / (kept.weights + ".safetensors"), weights);
    write_model_description(at_step, {job.training.student, job.spec, job.diffusion, step});
  };
  const auto result = train::train(
      *student, *method, bench.host, job.training.train, derive_seed(job.seed, "dropout"), folder,
      [&](const std::vector<CurvePoint>& points) {
        bench.recorder->record_curves(job.stage_key, points);
      },
      kept, stability_hint(job.training.method.params));
  write_model_description(folder, {job.training.student, job.spec, job.diffusion, result.steps});
  manifest.steps = result.steps;
  manifest.elapsed_s = result.elapsed_s;
  manifest.teacher_evaluations = result.teacher_evaluations;
  const auto examples = result.steps * job.training.train.integer("batch");
  manifest.flops = kForwardsPerExample * double(examples) *
                       double(nn::forward_flops(*student, job.spec)) +
                   teacher_flops(loaded, result.teacher_evaluations);
  manifest.peak_bytes = peak_resident_bytes();
}

}  // namespace dkdm::run
