#include "stages/streaming_evaluation.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "error_text.hpp"
#include "record/artifact_store.hpp"
#include "record/clock.hpp"
#include "stages/determinants.hpp"
#include "stages/feed.hpp"

namespace dkdm::stages {
namespace {

namespace fs = std::filesystem;
using record::seconds_since;

// Tensors of an unfinished evaluation.
const std::string kFirstImages = "first_images", kState = "evaluator/";

}  // namespace

std::shared_ptr<Evaluator> open_evaluator(const StageContext& context, const Evaluation& evaluation,
                                          std::int64_t count) {
  auto evaluator = context.registry.evaluator(evaluation.evaluator, context.host);
  record::check_contents(evaluation.prepared);
  evaluator->open(evaluation.prepared);
  warn_of_few_samples(*evaluator, count, context.host);
  return evaluator;
}

std::vector<record::MetricRecord> finish(Evaluator& evaluator, const Evaluation& evaluation,
                                         std::int64_t count) {
  std::vector<record::MetricRecord> records;
  const std::string protocol =
      evaluator.protocol() + (evaluation.other_images ? ", images of another seed" : "");
  for (const auto& metric : evaluator.finish())
    records.push_back({metric.name, metric.value, metric.higher_is_better, metric.unit, protocol,
                       evaluator.reference_fingerprint(), count, evaluation.step,
                       evaluation.weights});
  return records;
}

StreamingEvaluation::StreamingEvaluation(Host& host, Evaluator& evaluator,
                                         const TrainedModel& model, const SamplingSpec& spec,
                                         fs::path file)
    : host_(host), evaluator_(evaluator), model_(model), spec_(spec),
      process_(sampling_process(model.diffusion, spec)), file_(std::move(file)) {}

void StreamingEvaluation::run() {
  continue_from_file();
  saved_ = Clock::now();
  while (seen_ < spec_.count) {
    const at::Tensor images = draw();
    add(images);
    if (is_due()) save();
  }
}

at::Tensor StreamingEvaluation::draw() {
  const auto start = Clock::now();
  try {
    const at::Tensor images = draw_batch(host_, model_, process_, spec_, seen_);
    sampling_s_ += seconds_since(start);
    return images;
  } catch (const Interrupted&) {
    if (seen_ > 0) save();
    throw;
  }
}

void StreamingEvaluation::add(const at::Tensor& images) {
  const auto start = Clock::now();
  evaluator_.add(images);
  const auto wanted = kGridImages - (first_images_.defined() ? first_images_.size(0) : 0);
  if (wanted > 0) {
    const at::Tensor more = images.slice(0, 0, wanted);
    first_images_ = first_images_.defined() ? at::cat({first_images_, more}) : more;
  }
  seen_ += images.size(0);
  evaluating_s_ += seconds_since(start);
}

// A kill costs a few seconds of work; saving costs a twentieth of the time at most.
bool StreamingEvaluation::is_due() const {
  constexpr double kOftenS = 2, kShare = 20;
  return seen_ < spec_.count && seconds_since(saved_) > std::max(kOftenS, kShare * saving_s_);
}

void StreamingEvaluation::save() {
  const auto start = Clock::now();
  io::TensorMap all{{kFirstImages, first_images_}};
  for (const auto& [name, tensor] : evaluator_.state()) all[kState + name] = tensor;
  io::save_work(file_, all,
                {{"set", describe(spec_)},
                 {"images", std::to_string(seen_)},
                 {"sampling_s", std::to_string(sampling_s_)},
                 {"evaluating_s", std::to_string(evaluating_s_)}});
  saving_s_ = seconds_since(start);
  saved_ = Clock::now();
}

void StreamingEvaluation::continue_from_file() {
  if (!fs::exists(file_)) return;
  try {
    take_over(io::load_work(file_));
    host_.log("evaluate", "continuing from image " + std::to_string(seen_));
  } catch (const Interrupted&) {
    throw;
  } catch (const std::exception& error) {
    host_.log("evaluate",
              io::set_aside(file_, error_text(error)) + "; starting from the first image");
    evaluator_.reset();
    seen_ = 0;
    first_images_ = at::Tensor();
    sampling_s_ = evaluating_s_ = 0;
  }
}

void StreamingEvaluation::take_over(const io::Work& work) {
  if (work.fact("set") != describe(spec_))
    throw DataError(file_.string(), "is of another sample set");
  seen_ = work.integer("images");
  if (seen_ < 1 || seen_ > spec_.count)
    throw DataError(file_.string(), "holds " + std::to_string(seen_) + " of " +
                                        std::to_string(spec_.count) + " images");
  const auto& image = model_.shape;
  first_images_ = work.tensor(kFirstImages, at::kByte, image.batch(std::min(seen_, kGridImages)));
  sampling_s_ = work.real("sampling_s");
  evaluating_s_ = work.real("evaluating_s");
  io::TensorMap state;
  for (const auto& [name, tensor] : work.tensors)
    if (name.starts_with(kState)) state[name.substr(kState.size())] = tensor;
  evaluator_.restore(state);
}

}  // namespace dkdm::stages
