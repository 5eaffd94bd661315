#include "run/training_stages.hpp"

#include <variant>

#include "method/teacher_fit.hpp"
#include "run/teacher_files.hpp"
#include "stages/determinants.hpp"
#include "stages/method_inputs.hpp"

namespace dkdm::run {
namespace {

void require_teacher(const config::Row& row, const std::string& who) {
  if (row.teacher) return;
  throw ConfigError(row.where,
                    "row \"" + row.id + "\": " + who +
                        " needs a teacher and the row has none; expected "
                        "a [teacher], or teacher = \"NAME\" where [teacher.NAME] are several");
}

// Of the parameters that every distillation method with a preparation has (dkdm/distillation.hpp):
// rows that go through the teacher together.
std::int64_t rows_together(const config::Training& training) {
  const auto& method = training.method.params.values();
  const auto stated = method.find("teacher_batch");
  const auto* rows = stated == method.end() ? nullptr : std::get_if<std::int64_t>(&stated->second);
  return rows && *rows > 0 ? *rows : training.train.integer("batch");
}

}  // namespace

stages::NetworkSource TrainingStages::teacher(const config::Row& row, StageChain& chain,
                                              bool teaches) {
  const auto& choice = row.teacher.value().plugin;
  stages::NetworkSource source{choice, {}, stages::describe(choice) + "\n"};
  const auto& training = trained_teacher(row);
  if (!training) {
    external_uses_.push_back({&row, teaches});
    source.identity += sources_.teacher(row).fingerprint();
    return source;
  }
  if (const Needs needs = sources_.needs(*training); needs.teacher || needs.synthetic)
    throw ConfigError(
        row.where, "row \"" + row.id + "\": its teacher is trained by " + training->method.name +
                       ", which needs a teacher itself; expected a method that learns from images");
  constexpr std::int64_t kTeacherSeed = 0;  // one teacher for the students of every seed
  const auto& name = row.teacher->name;
  const auto stage = train(row, *training, kTeacherSeed,
                           "train the teacher" + (name.empty() ? "" : " " + name), chain);
  chain.add("teacher", stage);
  source.folder = list_.output_of(stage).folder;
  source.identity += list_.key(stage);
  return source;
}

std::size_t TrainingStages::synthetic(const config::Row& row, StageChain& chain) {
  const auto source = teacher(row, chain);
  const auto stated = row.synthetic.integer("count");
  const auto spec =
      stages::sampling_spec(row.synthetic, stated > 0 ? stated : sources_.image_count(row),
                            record::derive_seed(0, "synthetic"));
  auto stage = stages::synthetic_stage(source, row.diffusion, spec, {0, costs_.teacher_s(row)});
  if (stated == 0) add_unknown(stage, "images", sources_.unknown_count(row));
  if (spec.count == 0) stage.estimated_s = kUnknownCost;
  if (extras_.footprints) {
    stage.footprint = sampling_footprint(costs_.teacher_bytes(row, row.synthetic.text("precision")),
                                         sources_.spec(row), spec, true);
    stage.footprint.remedy = drawing_remedy("synthetic", row.synthetic);
  }
  return list_.add(std::move(stage), chain.indices());
}

// The dataset that a training of the row learns to draw, "" where a file's network says none.
std::string TrainingStages::learned_images(const config::Row& row, const Needs& needs) {
  const bool learns_from_teacher = row.teacher && (needs.teacher || needs.synthetic);
  if (needs.dataset || (learns_from_teacher && trained_teacher(row)))
    return row.dataset ? row.dataset->name : "";
  if (!learns_from_teacher) return "";
  return images_of(sources_.teacher(row), row.teacher->plugin);
}

std::size_t TrainingStages::prepare(const stages::TrainingJob& job,
                                    const stages::TrainingInputs& inputs, const Method& method,
                                    const stages::ImageCosts& costs, const config::Row& row,
                                    const NetworkBytes& teacher, double held,
                                    const StageChain& before) {
  auto prepared = stages::pool_stage(job, inputs, method, costs);
  add_unknown(prepared, "image size", sources_.unknown_spec(row));
  if (extras_.footprints) {
    prepared.footprint =
        preparation_footprint(teacher, held, job.shape, rows_together(job.training));
    // It is prepared in the machine's memory, some rows at a time on the device.
    if (!context_.host.device().is_cpu()) prepared.footprint.parts.batch_set = 0;
    prepared.footprint.remedy = preparation_remedy(job.training);
  }
  return list_.add(std::move(prepared), before.indices());
}

std::size_t TrainingStages::train(const config::Row& row, const config::Training& training,
                                  std::int64_t seed, const std::string& label, StageChain& chain,
                                  const train::SnapshotPolicy& snapshots) {
  const auto method = context_.registry.method(training.method, context_.host);
  const Needs needs = method->needs();
  const stages::TrainingJob job{training, row.diffusion, sources_.spec(row),
                                seed,     snapshots,     learned_images(row, needs)};
  stages::TrainingInputs inputs;
  StageChain before;
  if (needs.dataset) {
    const auto& images = sources_.images(row);
    inputs.dataset = {images.dataset, images.fingerprint};
  }
  if (needs.teacher || needs.synthetic) require_teacher(row, training.method.name);
  if (needs.teacher) inputs.teacher = teacher(row, before, /*teaches=*/true);
  if (needs.synthetic) {
    const auto stage = synthetic(row, before);
    before.add("synthetic", stage);
    inputs.synthetic = list_.output_of(stage);
  }
  const stages::ImageCosts costs{costs_.training_s(row, training.student),
                                 needs.teacher ? costs_.teacher_s(row) : 0};
  const NetworkBytes taught =
      needs.teacher ? costs_.teacher_bytes(row, config::teacher_precision(training.train))
                    : NetworkBytes{};
  const auto batch = training.train.integer("batch");
  const double held = extras_.footprints ? method->held_bytes(row.diffusion, job.shape, batch) : 0;
  if (needs.preparation) {
    const auto stage = prepare(job, inputs, *method, costs, row, taught, held, before);
    before.add("pool", stage);
    inputs.pool = list_.output_of(stage);
  }
  chain.add(before);
  auto trained = stages::train_stage(label, job, inputs, *method, costs);
  add_unknown(trained, "image size", sources_.unknown_spec(row));
  if (extras_.footprints) {
    const auto every = snapshots.every;
    const auto kept = every > 0 ? (training.train.integer("steps") - 1) / every : 0;
    const auto student = costs_.student_bytes(row, training.student, Pass::training,
                                              training.train.text("precision"));
    trained.footprint = training_footprint(student, taught, held, job.shape, batch, kept,
                                           job.training.train.flag("graphs"));
    if (stages::keeps_on_host(training.train, held, context_.host.device()))
      trained.footprint.parts.batch_set = 0;
    trained.footprint.remedy = training_remedy(training);
  }
  return list_.add(std::move(trained), before.indices());
}

void TrainingStages::check_teachers(const config::Experiment& experiment) {
  for (const auto& [row, teaches] : external_uses_) {
    const auto known = sources_.teacher(*row).made_for();
    if (!known) continue;
    const TrainedModel model{nullptr, known->diffusion, known->shape};
    const ImageSpec spec = sources_.spec(*row);
    for (const std::string& misfit :
         {spec.values() > 0 ? image_misfit(model, spec) : std::string(),
          teaches ? process_misfit(model, row->diffusion) : std::string()})
      if (!misfit.empty()) throw ConfigError(place_of_teacher(experiment, *row), misfit);
  }
}

}  // namespace dkdm::run
