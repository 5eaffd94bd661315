// What each kind of stage does: reads the folders of its inputs, fills its own.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "config/experiment.hpp"
#include "dkdm/method.hpp"
#include "dkdm/sampler.hpp"
#include "record/artifact_store.hpp"
#include "record/records.hpp"
#include "train/trainer.hpp"

namespace dkdm::run {

// What every stage of a plan shares. References outlive the plan.
struct Bench {
  const plugin::Registry& registry;
  Host& host;
  std::shared_ptr<Dataset> dataset;
  record::Recorder* recorder = nullptr;  // null where stages are planned, not made
};

// The trained network that students learn from: a folder of this suite, or another teacher plugin.
struct TeacherSource {
  plugin::PluginChoice choice;
  std::filesystem::path folder;  // empty: the plugin's own parameters say where it is
  TrainedModel load(const Bench& bench) const;
};

// Images uint8 [n,C,S,S] in memory, seen as a dataset.
DKDM_API std::shared_ptr<Dataset> sample_set(at::Tensor images, std::string fingerprint);
// A uint8 sample set on disk (samples.npz, arr_0 as ADM writes it), seen as a dataset.
std::shared_ptr<Dataset> open_samples(const std::filesystem::path& folder);
inline constexpr const char* kSamplesFile = "samples.npz";

// The picture of a set's first images, `images` uint8 [N,C,S,S]: grid.png.
void write_grid(const std::filesystem::path& folder, const at::Tensor& images);
inline constexpr const char* kGridFile = "grid.png";
inline constexpr std::int64_t kGridImages = 64;

struct SamplingSpec {
  SamplerConfig sampler;
  std::string respacing;
  std::int64_t count = 0, batch = 0;
  std::uint64_t seed = 0;
};
DKDM_API SamplingSpec sampling_spec(const Params& section, std::int64_t count, std::uint64_t seed);

// The process that is sampled, of a network trained with `diffusion`.
GaussianDiffusion sampling_process(DiffusionConfig diffusion, const SamplingSpec& spec);

// uint8 [n,C,S,S]: images first … first+n-1 of the set, n = spec.batch or what is left.
at::Tensor draw_batch(Host& host, const TrainedModel& model, const GaussianDiffusion& process,
                      const SamplingSpec& spec, std::int64_t first);
// Floating-point operations of drawing the whole set (model/flops.hpp).
double sampling_flops(const TrainedModel& model, const SamplingSpec& spec);

// uint8 [count,C,S,S].
DKDM_API at::Tensor sample_images(Host& host, const TrainedModel& model, const SamplingSpec& spec);

// Fills `folder` with samples.npz and grid.png; finished batches survive a kill.
DKDM_API void draw_samples(Bench& bench, const TrainedModel& model, const SamplingSpec& spec,
                  const std::filesystem::path& folder, record::Manifest& manifest);

struct TrainingInputs {
  std::optional<TeacherSource> teacher;
  std::filesystem::path synthetic, pool;  // empty = not needed
};

struct TrainingJob {
  config::Training training;
  DiffusionConfig diffusion;
  ImageSpec spec;
  std::int64_t seed = 0;
  std::string stage_key;  // curves are recorded under it
  train::Kept kept;
};

// Fills `folder` with what the method prepares before training (a batch set).
void prepare_method(Bench& bench, const TrainingJob& job, const TrainingInputs& inputs,
                    const std::filesystem::path& folder, record::Manifest& manifest);
// Fills `folder` with model.json, raw.safetensors, ema.safetensors; with the folders of `kept`.
void train_student(Bench& bench, const TrainingJob& job, const TrainingInputs& inputs,
                   const std::filesystem::path& folder, record::Manifest& manifest);

}  // namespace dkdm::run
