// One sample set on its way from the sampler into an evaluator: no image is kept but the first.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "dkdm/diffusion.hpp"
#include "dkdm/evaluator.hpp"
#include "io/checkpoint/work_file.hpp"
#include "plugin/registry.hpp"
#include "record/clock.hpp"
#include "record/records.hpp"
#include "stages/sampling.hpp"
#include "stages/stage.hpp"

namespace dkdm::stages {

// What a network's samples are measured with, and how its values are recorded.
struct Evaluation {
  plugin::PluginChoice evaluator;
  std::filesystem::path prepared;  // folder of the evaluator's stage
  std::string weights;             // "ema", "raw" or kUnlabelled
  std::int64_t step = 0;           // training step of the network's weights
  // The images are others than those that are drawn at the end: the values stand apart from theirs.
  bool other_images = false;
};

// Open on what was prepared; warns where `count` samples are few. Throws DataError for damaged
// files.
std::shared_ptr<Evaluator> open_evaluator(const StageContext& context, const Evaluation& evaluation,
                                          std::int64_t count);

// The metrics of what was added, as they are recorded.
std::vector<record::MetricRecord> finish(Evaluator& evaluator, const Evaluation& evaluation,
                                         std::int64_t count);

// What was seen so far is saved in `file` every few seconds and when the host asks to stop: after a
// kill the evaluation continues there, to the same bits. References outlive it.
class StreamingEvaluation {
 public:
  StreamingEvaluation(Host& host, Evaluator& evaluator, const TrainedModel& model,
                      const SamplingSpec& spec, std::filesystem::path file);

  // Draws the whole set and adds it. Throws Interrupted.
  void run();

  // uint8 [n,C,H,W]: the first images.
  const at::Tensor& first_images() const { return first_images_; }
  // Of all attempts.
  double sampling_s() const { return sampling_s_; }
  double evaluating_s() const { return evaluating_s_; }

 private:
  using Clock = record::Clock;

  at::Tensor draw();
  void add(const at::Tensor& images);
  bool is_due() const;
  void save();
  void continue_from_file();
  void take_over(const io::Work& work);

  Host& host_;
  Evaluator& evaluator_;
  const TrainedModel& model_;
  const SamplingSpec& spec_;
  const GaussianDiffusion process_;
  const std::filesystem::path file_;

  std::int64_t seen_ = 0;
  at::Tensor first_images_;
  double sampling_s_ = 0, evaluating_s_ = 0, saving_s_ = 0;
  Clock::time_point saved_;
};

}  // namespace dkdm::stages
