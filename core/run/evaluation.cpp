#include "run/evaluation.hpp"

#include <ATen/ATen.h>

#include <chrono>
#include <cmath>
#include <limits>
#include <optional>

#include "dkdm/documents.hpp"
#include "dkdm/files.hpp"
#include "dkdm/io.hpp"
#include "dkdm/json.hpp"
#include "error_text.hpp"
#include "io/checkpoint/work_file.hpp"
#include "model/model_folder.hpp"
#include "record/metrics_file.hpp"
#include "run/determinants.hpp"
#include "run/feed.hpp"
#include "run/npz_images.hpp"

namespace dkdm::run {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Tensors of an unfinished evaluation.
const std::string kFirstImages = "first_images", kState = "evaluator/";

std::vector<record::MetricRecord> finish(Evaluator& evaluator, const Evaluation& evaluation,
                                 std::int64_t count) {
  std::vector<record::MetricRecord> records;
  for (const auto& metric : evaluator.finish())
    records.push_back({metric.name, metric.value, metric.higher_is_better, metric.unit,
                       evaluator.protocol(), evaluator.reference_fingerprint(), count,
                       evaluation.step, evaluation.weights});
  return records;
}

std::shared_ptr<Evaluator> open_evaluator(const Bench& bench, const Evaluation& evaluation,
                                          std::int64_t count) {
  auto evaluator = bench.registry.evaluator(evaluation.evaluator, bench.host);
  record::check_contents(evaluation.prepared);
  evaluator->open(evaluation.prepared);
  warn_of_few_samples(*evaluator, count, bench.host);
  return evaluator;
}

// One sample set on its way from the sampler into the evaluator. `file` has what was done so far.
class Passage {
 public:
  Passage(Host& host, Evaluator& evaluator, const TrainedModel& model, const SamplingSpec& spec,
          fs::path file)
      : host_(host), evaluator_(evaluator), model_(model), spec_(spec),
        process_(sampling_process(model.diffusion, spec)), file_(std::move(file)) {}

  void run() {
    continue_from_file();
    saved_ = Clock::now();
    while (seen_ < spec_.count) {
      const at::Tensor images = draw();
      show(images);
      if (is_due()) save();
    }
  }

  // uint8 [n,C,S,S]: the first images.
  const at::Tensor& first_images() const { return first_images_; }
  double sampling_s() const { return sampling_s_; }
  double evaluating_s() const { return evaluating_s_; }

 private:
  at::Tensor draw() {
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

  void show(const at::Tensor& images) {
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
  bool is_due() const {
    constexpr double kOftenS = 2, kShare = 20;
    return seen_ < spec_.count && seconds_since(saved_) > std::max(kOftenS, kShare * saving_s_);
  }

  void save() {
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

  void continue_from_file() {
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

  void take_over(const io::Work& work) {
    if (work.fact("set") != describe(spec_))
      throw DataError(file_.string(), "is of another sample set");
    seen_ = work.integer("images");
    if (seen_ < 1 || seen_ > spec_.count)
      throw DataError(file_.string(), "holds " + std::to_string(seen_) + " of " +
                                          std::to_string(spec_.count) + " images");
    const auto& image = model_.spec;
    first_images_ =
        work.tensor(kFirstImages, at::kByte,
                    {std::min(seen_, kGridImages), image.channels, image.size, image.size});
    sampling_s_ = work.real("sampling_s");
    evaluating_s_ = work.real("evaluating_s");
    io::TensorMap state;
    for (const auto& [name, tensor] : work.tensors)
      if (name.starts_with(kState)) state[name.substr(kState.size())] = tensor;
    evaluator_.restore(state);
  }

  Host& host_;
  Evaluator& evaluator_;
  const TrainedModel& model_;
  const SamplingSpec& spec_;
  const GaussianDiffusion process_;
  const fs::path file_;

  std::int64_t seen_ = 0;
  at::Tensor first_images_;
  double sampling_s_ = 0, evaluating_s_ = 0, saving_s_ = 0;
  Clock::time_point saved_;
};

// What the evaluation of one step's weights gave, on its way into the metrics of all steps.
struct StepValues {
  Json metrics;
  double elapsed_s = 0, flops = 0;
};

void write_step(const fs::path& file, const StepValues& values) {
  Json json = {{"metrics", values.metrics},
               {"elapsed_s", values.elapsed_s},
               {"flops", values.flops}};
  json["checksum"] = io::sha256(json.dump());
  io::write_text(file, json.dump(2) + "\n");
}

// Nothing when it is not there or is not what was written: then it is made again.
std::optional<StepValues> read_step(const fs::path& file, Host& host) {
  if (!fs::exists(file)) return std::nullopt;
  try {
    auto json = Json::parse(io::read_document(file));
    const auto checksum = io::as<std::string>(json.at("checksum"));
    json.erase("checksum");
    if (io::sha256(json.dump()) == checksum)
      return StepValues{json.at("metrics"), io::as<double>(json.at("elapsed_s")),
                        io::as<double>(json.at("flops"))};
  } catch (const Json::exception&) {
    // Damaged as any other.
  } catch (const DataError&) {
  }
  host.log("evaluate", io::set_aside(file, file.string() + ": is not what was written") +
                           "; this step is evaluated again");
  return std::nullopt;
}

void write_metrics(const fs::path& folder, const Json& metrics) {
  io::write_text(folder / record::kMetricsFile, metrics.dump(2) + "\n");
}

}  // namespace

void evaluate_drawn(Bench& bench, const Evaluation& evaluation, const TrainedModel& model,
                    const SamplingSpec& spec, record::Manifest samples, const fs::path& folder,
                    record::Manifest& manifest) {
  const auto evaluator = open_evaluator(bench, evaluation, spec.count);
  const auto unfinished = folder / "unfinished.safetensors";
  Passage passage(bench.host, *evaluator, model, spec, unfinished);
  passage.run();
  const auto start = Clock::now();
  write_metrics(folder, record::to_json(finish(*evaluator, evaluation, spec.count)));
  manifest.elapsed_s = passage.evaluating_s() + seconds_since(start);
  manifest.steps = spec.count;
  write_grid(folder, passage.first_images());
  samples.steps = spec.count;
  samples.elapsed_s = passage.sampling_s();
  samples.flops = sampling_flops(model, spec);
  record::write_manifest(folder / record::kSamplesManifest, samples);
  manifest.outputs = {record::kMetricsFile, kGridFile, record::kSamplesManifest};
  fs::remove(unfinished);
}

void evaluate_saved(Bench& bench, const Evaluation& evaluation, const fs::path& samples_folder,
                    const fs::path& folder, record::Manifest& manifest) {
  record::check_contents(samples_folder, {kSamplesFile});
  const NpzImages samples(samples_folder / kSamplesFile);
  const auto count = samples.size();
  const auto evaluator = open_evaluator(bench, evaluation, count);
  add_images(*evaluator, samples, 0, count, bench.host);
  write_metrics(folder, record::to_json(finish(*evaluator, evaluation, count)));
  write_grid(folder, samples.images(at::arange(std::min(count, kGridImages), at::kLong)));
  manifest.steps = count;
  manifest.outputs = {record::kMetricsFile, kGridFile};
}

void evaluate_course(Bench& bench, const Evaluation& evaluation, const fs::path& trained,
                     const std::vector<std::int64_t>& steps, const SamplingSpec& spec,
                     const fs::path& folder, record::Manifest& manifest) {
  const auto last = model::read_model_description(trained, bench.registry).steps;
  const auto evaluator = open_evaluator(bench, evaluation, spec.count);
  Json metrics = Json::array();
  double elapsed_s = 0, flops = 0;
  for (const auto step : steps) {
    // Each step's values are kept, so that a kill costs the one under way alone.
    const auto file = folder / ("step-" + std::to_string(step) + ".json");
    auto done = read_step(file, bench.host);
    if (!done) {
      bench.host.log("evaluate", "the weights of step " + std::to_string(step));
      const auto model = bench.host.load_model(step == last ? trained : model::kept_folder(trained, step),
                                               evaluation.weights);
      auto of_step = evaluation;
      of_step.step = step;
      const auto unfinished = folder / ("step-" + std::to_string(step) + ".safetensors");
      Passage passage(bench.host, *evaluator, model, spec, unfinished);
      passage.run();
      done = StepValues{record::to_json(finish(*evaluator, of_step, spec.count)),
                        passage.sampling_s() + passage.evaluating_s(), sampling_flops(model, spec)};
      write_step(file, *done);
      fs::remove(unfinished);
    }
    for (const auto& metric : done->metrics) metrics.push_back(metric);
    elapsed_s += done->elapsed_s;
    flops += done->flops;
  }
  write_metrics(folder, metrics);
  manifest.outputs = {record::kMetricsFile};
  manifest.elapsed_s = elapsed_s;
  manifest.flops = flops;
  manifest.steps = std::int64_t(steps.size()) * spec.count;
}

}  // namespace dkdm::run
