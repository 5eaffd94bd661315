// Training of a student, or of the teacher.
#include "dkdm/io.hpp"
#include "dkdm/memory.hpp"
#include "model/flops.hpp"
#include "model/model_folder.hpp"
#include "plugin/seeded_generator.hpp"
#include "record/environment.hpp"
#include "stages/determinants.hpp"
#include "stages/method_inputs.hpp"
#include "stages/stages.hpp"

namespace dkdm::stages {
namespace {

namespace fs = std::filesystem;

// Of the training loop, the optimiser, the losses, and what methods share (core/train, core/method,
// core/diffusion).
constexpr int kRevision = 1;

// Of a training example, in floating-point operations: the gradients of the input and of the
// weights cost a forward each.
constexpr double kForwardsPerExample = 3;

// Of the parameters that every distillation method has (dkdm/distillation.hpp), one that is off.
std::string stability_hint(const Params& method) {
  const auto clip = method.values().find("student_clip");
  return clip != method.values().end() && clip->second == Value(false) ? "student_clip = true" : "";
}

// `key`: curves are recorded under it.
void train_student(StageContext& context, const TrainingJob& job, const TrainingInputs& inputs,
                   const std::string& key, const fs::path& folder, record::Manifest& manifest) {
  const auto method = context.registry.method(job.training.method, context.host);
  const StudentContext made_for{job.shape, job.diffusion};
  context.registry.check_size(job.training.student, made_for, kTrainingCopies);
  const auto student = context.registry.student(job.training.student, made_for,
                                                record::derive_seed(job.seed, "initialise"));
  model::to_channels_last(*student);
  student->to(context.host.device());
  const MethodInputs loaded(context, job, inputs, *method, job.training.train.flag("graphs"));
  MethodContext method_context = loaded.context();
  method_context.student = student.get();
  method_context.pool_on_host = keeps_on_host(
      job.training.train,
      method->held_bytes(job.diffusion, job.shape, job.training.train.integer("batch")),
      context.host.device());
  method_context.keep_last_batch = job.training.train.text("last_batch") == "keep";
  {
    const plugin::SeededGenerator generator(record::derive_seed(job.seed, "method"));
    if (!inputs.pool.folder.empty()) record::check_contents(inputs.pool.folder);
    method->start(method_context, inputs.pool.folder);
  }
  const auto write_description = [&](const fs::path& to, std::int64_t steps) {
    model::write_model_description(
        to, {job.training.student, job.shape, job.diffusion, steps, job.images});
  };
  auto snapshots = job.snapshots;
  snapshots.keep = [&](std::int64_t step, const TensorMap& weights) {
    const auto at_step = model::kept_folder(folder, step);
    fs::create_directories(at_step);
    io::save_tensors(at_step / (snapshots.weights + ".safetensors"), weights);
    write_description(at_step, step);
  };
  const auto result = train::train(
      *student, *method, context.host, job.training.train, record::derive_seed(job.seed, "dropout"),
      folder,
      [&](const std::vector<record::CurvePoint>& points) {
        context.recorder->record_curves(key, points);
      },
      snapshots, stability_hint(job.training.method.params), [&] { return loaded.work(); });
  write_description(folder, result.steps);
  manifest.outputs = {model::kModelFile, "raw.safetensors", "ema.safetensors"};
  if (fs::exists(folder / train::kPartFile)) manifest.outputs.push_back(train::kPartFile);
  for (auto step = snapshots.every; snapshots.every > 0 && step < result.steps;
       step += snapshots.every)
    for (const auto& name : {snapshots.weights + ".safetensors", std::string(model::kModelFile)})
      manifest.outputs.push_back(model::kept_folder("", step) / name);
  manifest.steps = result.steps;
  manifest.elapsed_s = result.elapsed_s;
  manifest.teacher_evaluations = result.teacher.evaluations;
  if (!result.graphs.empty()) manifest.graphs = "student " + result.graphs;
  if (const auto teacher = loaded.teacher_graphs(); !teacher.empty())
    manifest.graphs += ", teacher " + teacher;
  if (inputs.teacher) manifest.teacher_s = result.teacher.seconds;
  manifest.flops = kForwardsPerExample * double(result.examples) *
                       double(model::forward_flops(*student, job.shape)) +
                   loaded.teacher_flops(result.teacher.evaluations);
  manifest.held_bytes = 0;
  for (const auto& [name, tensor] : method->state())
    *manifest.held_bytes += double(tensor.nbytes());
  manifest.peak_bytes = record::peak_resident_bytes();
}

}  // namespace

TrainedModel NetworkSource::load(const StageContext& context) const {
  const auto load = [&](const plugin::PluginChoice& from) {
    auto model = context.load_teacher ? context.load_teacher(from)
                                      : context.registry.teacher(from, context.host)->load();
    model.network->to(context.host.device());
    return model;
  };
  if (folder.empty()) return load(teacher);
  auto values = teacher.params.values();
  values["path"] = folder.string();
  plugin::PluginChoice at_folder = teacher;
  at_folder.params = Params(context.registry.find("teacher", teacher.name).params, values);
  return load(at_folder);
}

Stage train_stage(const std::string& label, const TrainingJob& job, const TrainingInputs& inputs,
                  const Method& method, const ImageCosts& costs) {
  const auto& train = job.training.train;
  Stage stage;
  stage.kind = StageKind::train;
  stage.label = label;
  stage.plugin = job.training.student.name;
  stage.parts = first_parts(stage.kind, kRevision);
  const auto add = [&](const char* name, std::string value) {
    stage.parts.emplace_back(name, std::move(value));
  };
  add("student", describe(job.training.student));
  add("method", describe(job.training.method));
  add("train", describe_training(train));
  add("diffusion", describe(job.diffusion));
  add("image", text_of(job.shape));
  add("seed", std::to_string(job.seed));
  if (job.snapshots.every > 0)
    add("kept", job.snapshots.weights + " every " + std::to_string(job.snapshots.every));
  if (inputs.dataset.images) add("dataset", inputs.dataset.fingerprint);
  if (const auto& precision = train.text("precision"); precision != "fp32")
    add("precision", precision);
  if (inputs.teacher) add("teacher", inputs.teacher->identity);
  if (inputs.teacher) add_teacher_precision(train, stage.parts);
  if (!inputs.synthetic.key.empty()) add("synthetic", inputs.synthetic.key);
  if (!inputs.pool.key.empty()) add("pool", inputs.pool.key);

  const auto steps = train.integer("steps"), batch = train.integer("batch");
  stage.estimated_s = double(steps * batch) * costs.training_s;
  if (inputs.teacher)
    stage.estimated_s +=
        double(method.training_evaluations(job.diffusion, batch, steps)) * costs.teacher_s;
  stage.work = [job, inputs, key = record::content_key(stage.parts)](
                   StageContext& context, const fs::path& folder, record::Manifest& manifest) {
    train_student(context, job, inputs, key, folder, manifest);
  };
  return stage;
}

}  // namespace dkdm::stages
