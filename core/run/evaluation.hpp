// Evaluation of trained networks. Samples go from the sampler into the evaluator as they are drawn, or come
// from a set on disk; the values are the same. Every function fills `folder` with metrics.json.
#pragma once

#include <filesystem>
#include <vector>

#include "record/records.hpp"
#include "run/stage_work.hpp"

namespace dkdm::run {

struct Evaluation {
  plugin::PluginChoice evaluator;
  std::filesystem::path prepared;  // folder of the evaluator's stage
  std::string weights;             // as values are recorded: "ema", "raw" or kUnlabelled
  std::int64_t step = 0;           // training step of the network's weights
};

// With grid.png, and samples.json: the manifest of the set that was drawn and not kept, which is
// `samples` with its costs. What was seen so far is saved every few seconds and when the host asks to
// stop: after a kill the evaluation continues there, to the same bits.
DKDM_API void evaluate_drawn(Bench& bench, const Evaluation& evaluation, const TrainedModel& model,
                             const SamplingSpec& spec, record::Manifest samples,
                             const std::filesystem::path& folder, record::Manifest& manifest);

// With grid.png.
DKDM_API void evaluate_saved(Bench& bench, const Evaluation& evaluation,
                             const std::filesystem::path& samples_folder,
                             const std::filesystem::path& folder, record::Manifest& manifest);

// The weights that a training kept on its way (kept_folder) at `steps`; the last step's are those of
// the model folder `trained` itself.
DKDM_API void evaluate_course(Bench& bench, const Evaluation& evaluation,
                              const std::filesystem::path& trained,
                              const std::vector<std::int64_t>& steps, const SamplingSpec& spec,
                              const std::filesystem::path& folder, record::Manifest& manifest);

}  // namespace dkdm::run
