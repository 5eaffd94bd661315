// Training stages: the teacher, a method's preparation, a student.
#include "dkdm/io.hpp"
#include "dkdm/memory.hpp"
#include "model/flops.hpp"
#include "model/model_folder.hpp"
#include "plugin/call.hpp"
#include "plugin/seeded_generator.hpp"
#include "record/environment.hpp"
#include "run/stage_work.hpp"
#include "train/trainer.hpp"

namespace dkdm::run {
namespace {

// The teacher as a method sees it: what it costs is counted here, not taken from the method's word.
class CountedTeacher final : public Denoiser {
 public:
  explicit CountedTeacher(std::shared_ptr<Denoiser> network)
      : network_(register_module("network", std::move(network))) {
    train(network_->is_training());
  }
  at::Tensor forward(const at::Tensor& x_t, const at::Tensor& t) override {
    images_ += x_t.size(0);
    return plugin::predict(*network_, x_t, t);
  }
  std::int64_t images() const { return images_; }
  Denoiser& network() const { return *network_; }

 private:
  std::shared_ptr<Denoiser> network_;
  std::int64_t images_ = 0;
};

// Keeps what a method's context points to.
struct LoadedInputs {
  std::optional<TrainedModel> teacher;
  std::shared_ptr<CountedTeacher> counted;  // the teacher's network
  std::shared_ptr<Dataset> synthetic;

  // Single-image forwards of the teacher so far.
  std::int64_t evaluations() const { return counted ? counted->images() : 0; }
};

MethodContext method_context(Bench& bench, const TrainingJob& job, const TrainingInputs& inputs,
                             const Needs& needs, LoadedInputs& loaded) {
  if (needs.teacher) {
    loaded.teacher = inputs.teacher.value().load(bench);
    loaded.counted = std::make_shared<CountedTeacher>(loaded.teacher->network);
    loaded.teacher->network = loaded.counted;
  }
  if (needs.synthetic) loaded.synthetic = open_samples(inputs.synthetic);
  return {bench.host,
          job.diffusion,
          job.spec,
          job.training.train.integer("batch"),
          record::derive_seed(job.seed, "method"),
          loaded.teacher ? &*loaded.teacher : nullptr,
          needs.dataset ? bench.dataset.get() : nullptr,
          loaded.synthetic.get(),
          nullptr};
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
         double(model::forward_flops(loaded.counted->network(), loaded.teacher->spec));
}

// A plan that was far off should not surprise twice.
void compare_with_announced(Host& host, const std::string& method, std::int64_t announced,
                            std::int64_t made) {
  if (made <= 2 * announced && announced <= 2 * made) return;
  host.log(method, "announced " + std::to_string(announced) + " teacher evaluations and made " +
                       std::to_string(made) + ": the plan's estimate was of the former");
}

}  // namespace

TrainedModel TeacherSource::load(const Bench& bench) const {
  const auto load = [&](const plugin::PluginChoice& from) {
    return bench.registry.teacher(from, bench.host)->load();
  };
  if (folder.empty()) return load(choice);
  auto values = choice.params.values();
  values["path"] = folder.string();
  plugin::PluginChoice at_folder = choice;
  at_folder.params = Params(bench.registry.find("teacher", choice.name).params, values);
  return load(at_folder);
}

void prepare_method(Bench& bench, const TrainingJob& job, const TrainingInputs& inputs,
                    const std::filesystem::path& folder, record::Manifest& manifest) {
  const auto method = bench.registry.method(job.training.method, bench.host);
  const bool fresh = std::filesystem::is_empty(folder);
  LoadedInputs loaded;
  const auto context = method_context(bench, job, inputs, method->needs(), loaded);
  method->prepare(context, folder);
  const auto announced =
      method->preparation_evaluations(job.diffusion, job.training.train.integer("batch"));
  // Of an attempt that was killed nothing is known but what was announced.
  manifest.teacher_evaluations =
      fresh ? loaded.evaluations() : std::max(loaded.evaluations(), announced);
  if (fresh) compare_with_announced(bench.host, job.training.method.name, announced, loaded.evaluations());
  manifest.flops = teacher_flops(loaded, manifest.teacher_evaluations);
}

void train_student(Bench& bench, const TrainingJob& job, const TrainingInputs& inputs,
                   const std::filesystem::path& folder, record::Manifest& manifest) {
  const auto method = bench.registry.method(job.training.method, bench.host);
  const StudentContext made_for{job.spec, job.diffusion};
  bench.registry.check_size(job.training.student, made_for, kTrainingCopies);
  const auto student =
      bench.registry.student(job.training.student, made_for, record::derive_seed(job.seed, "initialise"));
  model::to_channels_last(*student);
  LoadedInputs loaded;
  MethodContext context = method_context(bench, job, inputs, method->needs(), loaded);
  context.student = student.get();
  {
    const plugin::SeededGenerator generator(record::derive_seed(job.seed, "method"));
    if (!inputs.pool.empty()) record::check_contents(inputs.pool);
    method->start(context, inputs.pool);
  }
  auto kept = job.kept;
  kept.keep = [&](std::int64_t step, const TensorMap& weights) {
    const auto at_step = model::kept_folder(folder, step);
    std::filesystem::create_directories(at_step);
    io::save_tensors(at_step / (kept.weights + ".safetensors"), weights);
    model::write_model_description(at_step, {job.training.student, job.spec, job.diffusion, step});
  };
  const auto result = train::train(
      *student, *method, bench.host, job.training.train, record::derive_seed(job.seed, "dropout"), folder,
      [&](const std::vector<record::CurvePoint>& points) {
        bench.recorder->record_curves(job.stage_key, points);
      },
      kept, stability_hint(job.training.method.params), [&] { return loaded.evaluations(); });
  model::write_model_description(folder, {job.training.student, job.spec, job.diffusion, result.steps});
  manifest.outputs = {model::kModelFile, "raw.safetensors", "ema.safetensors"};
  if (std::filesystem::exists(folder / train::kPartFile)) manifest.outputs.push_back(train::kPartFile);
  for (auto step = kept.every; kept.every > 0 && step < result.steps; step += kept.every)
    for (const auto& name : {kept.weights + ".safetensors", std::string(model::kModelFile)})
      manifest.outputs.push_back(model::kept_folder("", step) / name);
  manifest.steps = result.steps;
  manifest.elapsed_s = result.elapsed_s;
  manifest.teacher_evaluations = result.teacher_evaluations;
  const auto examples = result.steps * job.training.train.integer("batch");
  manifest.flops = kForwardsPerExample * double(examples) *
                       double(model::forward_flops(*student, job.spec)) +
                   teacher_flops(loaded, result.teacher_evaluations);
  manifest.peak_bytes = record::peak_resident_bytes();
}

}  // namespace dkdm::run
