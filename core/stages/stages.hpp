// The kinds of stages: what determines each, what it costs, what it does. One file a kind;
// run/plan.cpp joins them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "config/experiment.hpp"
#include "dkdm/method.hpp"
#include "stages/reference.hpp"
#include "stages/sampling.hpp"
#include "stages/stage.hpp"
#include "stages/streaming_evaluation.hpp"
#include "train/trainer.hpp"

namespace dkdm::stages {

// A network that students learn from or that is evaluated: a folder of this suite, or what a
// teacher plugin has from elsewhere.
struct NetworkSource {
  plugin::PluginChoice teacher;
  std::filesystem::path folder;  // empty: the plugin's own parameters say where it is
  std::string identity;          // of its weights, in keys

  // As the teacher plugin loads it.
  TrainedModel load(const StageContext& context) const;
};

// An earlier stage's output; empty = not needed.
struct StageInput {
  std::filesystem::path folder;
  std::string key;
};

struct DatasetInput {
  std::shared_ptr<Dataset> images;  // null = not needed
  std::string fingerprint;
};

struct TrainingInputs {
  std::optional<NetworkSource> teacher;
  StageInput synthetic, pool;
  DatasetInput dataset;
};

struct TrainingJob {
  config::Training training;
  DiffusionConfig diffusion;
  SampleShape shape;
  std::int64_t seed = 0;
  train::SnapshotPolicy snapshots;
  std::string images;  // the dataset that the network learns to draw, "" = not known; in no key
};

// Seconds of one image: a training example of the student, a forward of the teacher; 0 = not
// measured.
struct ImageCosts {
  double training_s = 0, teacher_s = 0;
};

// What the method prepares before training (a batch set), shared by all students that learn from
// it.
Stage pool_stage(const TrainingJob& job, const TrainingInputs& inputs, const Method& method,
                 const ImageCosts& costs);

// A model folder: model.json, raw.safetensors, ema.safetensors; and those of the snapshots below
// it.
Stage train_stage(const std::string& label, const TrainingJob& job, const TrainingInputs& inputs,
                  const Method& method, const ImageCosts& costs);

// Images of the teacher, for a method that learns from them.
Stage synthetic_stage(const NetworkSource& teacher, const DiffusionConfig& diffusion,
                      const SamplingSpec& spec, const ImageCosts& costs);

// A network to evaluate: the student of a row, or the teacher.
struct EvaluatedNetwork {
  NetworkSource source;
  double forward_s = 0;
  std::int64_t steps = 0;  // of its training, 0 = unknown
  std::string weights;     // as values are recorded: "ema", "raw" or kUnlabelled

  TrainedModel load(const StageContext& context) const;
};

Stage sample_stage(const std::string& row, const EvaluatedNetwork& network,
                   const DiffusionConfig& diffusion, const SamplingSpec& spec);

// What an evaluator makes of the reference images. `identity` is Evaluator::identity().
Stage evaluator_stage(const plugin::PluginChoice& choice, const std::string& identity,
                      const Reference& reference);
// What determines it alone; `reference` is the images' fingerprint.
record::KeyParts evaluator_parts(const plugin::PluginChoice& choice, const std::string& identity,
                                 const std::string& reference);

struct EvaluatorInput {
  plugin::PluginChoice choice;
  std::string parameters;  // those that do not enter the prepared evaluator enter where it is used
  StageInput prepared;
};

// Their parts of the key of an evaluation.
void add_evaluator(const EvaluatorInput& evaluator, record::KeyParts& parts);

// Of the set of `sample`, which is drawn on the way unless it is on disk. The samples' key stands
// in this one's either way: the values are the same. `store` must outlive the stage.
Stage evaluate_stage(const std::string& row, const EvaluatedNetwork& network,
                     const SamplingSpec& spec, const Stage& sample, const EvaluatorInput& evaluator,
                     const record::ArtifactStore& store);

// Of the snapshots at `steps`. `evaluate` is the key of the evaluation at the end, which is one of
// them unless `other_images`: then `spec` draws others.
Stage snapshots_stage(const std::string& row, const EvaluatedNetwork& network,
                      const DiffusionConfig& diffusion, const SamplingSpec& spec,
                      const std::vector<std::int64_t>& steps, const std::string& evaluate,
                      const EvaluatorInput& evaluator, bool other_images);

// Of the evaluated steps the one whose values count (train.select).
struct Selecting {
  std::string metric;             // the step where it is best
  std::filesystem::path trained;  // model folder, with the weights that were kept on the way
  std::filesystem::path snapshots, evaluated;  // folders of those stages
  // Of the images at the end, as they are drawn and evaluated for the chosen step, too.
  SamplingSpec spec;
  Evaluation evaluation;
  bool same_images = false;  // the evaluations on the way were of these images, too
  bool save = false;         // keep the chosen step's images
};

// `snapshots` and `evaluate` are the keys of those stages.
Stage select_stage(const std::string& row, const EvaluatedNetwork& network,
                   const DiffusionConfig& diffusion, const Selecting& selecting,
                   const std::string& snapshots, const std::string& evaluate);

// What the last ones do; each fills `folder` with metrics.json. Of samples drawn on the way, with
// grid.png, and samples.json: the manifest of the set that was drawn and not kept, which is
// `samples` with its costs.
DKDM_API void evaluate_drawn(StageContext& context, const Evaluation& evaluation,
                             const TrainedModel& model, const SamplingSpec& spec,
                             record::Manifest samples, const std::filesystem::path& folder,
                             record::Manifest& manifest);
// Of samples on disk, with grid.png.
DKDM_API void evaluate_saved(StageContext& context, const Evaluation& evaluation,
                             const std::filesystem::path& samples_folder,
                             const std::filesystem::path& folder, record::Manifest& manifest);
// Of the weights that a training kept on its way (kept_folder) at `steps`; the last step's are
// those of the model folder `trained` itself.
DKDM_API void evaluate_snapshots(StageContext& context, const Evaluation& evaluation,
                                 const std::filesystem::path& trained,
                                 const std::vector<std::int64_t>& steps, const SamplingSpec& spec,
                                 const std::filesystem::path& folder, record::Manifest& manifest);
// metrics.json of the chosen step, selection.json, and unless that is the last one its grid.png and
// perhaps samples.npz.
// Throws Error where no step has a finite value of the metric.
DKDM_API void select_step(StageContext& context, const Selecting& selecting,
                          const std::filesystem::path& folder, record::Manifest& manifest);

}  // namespace dkdm::stages
