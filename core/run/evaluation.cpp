#include "run/evaluation.hpp"

#include <ATen/ATen.h>

#include <chrono>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "dkdm/documents.hpp"
#include "dkdm/io.hpp"
#include "run/feed.hpp"
#include "run/model_folder.hpp"
#include "run/npz_images.hpp"

namespace dkdm::run {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

constexpr const char* kMetricsFile = "metrics.json";

Json to_json(const std::vector<MetricRecord>& metrics) {
  Json json = Json::array();
  for (const auto& metric : metrics)
    json.push_back({{"name", metric.name},
                    {"value", metric.value},
                    {"higher_is_better", metric.higher_is_better},
                    {"unit", metric.unit},
                    {"protocol", metric.protocol},
                    {"reference", metric.reference},
                    {"sample_count", metric.sample_count},
                    {"step", metric.step},
                    {"weights", metric.weights}});
  return json;
}

std::vector<MetricRecord> metrics_of(const Json& json) {
  std::vector<MetricRecord> metrics;
  for (const auto& entry : json) {
    auto& metric = metrics.emplace_back();
    metric.name = entry.at("name");
    // JSON has no word for what is not a number.
    metric.value = entry.at("value").is_null() ? std::numeric_limits<double>::quiet_NaN()
                                               : entry.at("value").get<double>();
    metric.higher_is_better = entry.at("higher_is_better");
    metric.unit = entry.at("unit");
    metric.protocol = entry.at("protocol");
    metric.reference = entry.at("reference");
    metric.sample_count = entry.at("sample_count");
    metric.step = entry.at("step");
    metric.weights = entry.at("weights");
  }
  return metrics;
}

std::vector<MetricRecord> finish(Evaluator& evaluator, const Evaluation& evaluation,
                                 std::int64_t count) {
  std::vector<MetricRecord> records;
  for (const auto& metric : evaluator.finish())
    records.push_back({metric.name, metric.value, metric.higher_is_better, metric.unit,
                       evaluator.protocol(), evaluator.reference_fingerprint(), count,
                       evaluation.step, evaluation.weights});
  return records;
}

std::shared_ptr<Evaluator> open_evaluator(const Bench& bench, const Evaluation& evaluation,
                                          std::int64_t count) {
  auto evaluator = bench.registry.evaluator(evaluation.evaluator, bench.host);
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
    io::TensorMap all{{"first_images", first_images_}};
    for (const auto& [name, tensor] : evaluator_.state()) all["evaluator/" + name] = tensor;
    io::save_tensors(file_, all,
                     {{"images", std::to_string(seen_)},
                      {"sampling_s", std::to_string(sampling_s_)},
                      {"evaluating_s", std::to_string(evaluating_s_)}});
    saving_s_ = seconds_since(start);
    saved_ = Clock::now();
  }

  void continue_from_file() {
    if (!fs::exists(file_)) return;
    std::map<std::string, std::string> metadata;
    io::TensorMap state;
    const std::string prefix = "evaluator/";
    for (const auto& [name, tensor] : io::load_tensors(file_, &metadata)) {
      if (name.starts_with(prefix)) state[name.substr(prefix.size())] = tensor;
      else first_images_ = tensor;
    }
    evaluator_.restore(state);
    seen_ = std::stoll(metadata.at("images"));
    sampling_s_ = std::stod(metadata.at("sampling_s"));
    evaluating_s_ = std::stod(metadata.at("evaluating_s"));
    host_.log("evaluate", "continuing from image " + std::to_string(seen_));
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

void write_metrics(const fs::path& folder, const Json& metrics) {
  io::write_text(folder / kMetricsFile, metrics.dump(2) + "\n");
}

}  // namespace

void evaluate_drawn(Bench& bench, const Evaluation& evaluation, const TrainedModel& model,
                    const SamplingSpec& spec, Manifest samples, const fs::path& folder,
                    Manifest& manifest) {
  const auto evaluator = open_evaluator(bench, evaluation, spec.count);
  const auto unfinished = folder / "unfinished.safetensors";
  Passage passage(bench.host, *evaluator, model, spec, unfinished);
  passage.run();
  const auto start = Clock::now();
  write_metrics(folder, to_json(finish(*evaluator, evaluation, spec.count)));
  manifest.elapsed_s = passage.evaluating_s() + seconds_since(start);
  manifest.steps = spec.count;
  write_grid(folder, passage.first_images());
  samples.steps = spec.count;
  samples.elapsed_s = passage.sampling_s();
  samples.flops = sampling_flops(model, spec);
  write_manifest(folder / kSamplesManifest, samples);
  fs::remove(unfinished);
}

void evaluate_saved(Bench& bench, const Evaluation& evaluation, const fs::path& samples_folder,
                    const fs::path& folder, Manifest& manifest) {
  const NpzImages samples(samples_folder / kSamplesFile);
  const auto count = samples.size();
  const auto evaluator = open_evaluator(bench, evaluation, count);
  add_images(*evaluator, samples, 0, count, bench.host);
  write_metrics(folder, to_json(finish(*evaluator, evaluation, count)));
  write_grid(folder, samples.images(at::arange(std::min(count, kGridImages), at::kLong)));
  manifest.steps = count;
}

void evaluate_course(Bench& bench, const Evaluation& evaluation, const fs::path& trained,
                     const std::vector<std::int64_t>& steps, const SamplingSpec& spec,
                     const fs::path& folder, Manifest& manifest) {
  const auto last = read_model_description(trained, bench.registry).steps;
  const auto evaluator = open_evaluator(bench, evaluation, spec.count);
  Json metrics = Json::array();
  double elapsed_s = 0, flops = 0;
  for (const auto step : steps) {
    // Each step's values are kept, so that a kill costs the one under way alone.
    const auto file = folder / ("step-" + std::to_string(step) + ".json");
    if (!fs::exists(file)) {
      bench.host.log("evaluate", "the weights of step " + std::to_string(step));
      const auto model = bench.host.load_model(step == last ? trained : kept_folder(trained, step),
                                               evaluation.weights);
      auto of_step = evaluation;
      of_step.step = step;
      const auto unfinished = folder / ("step-" + std::to_string(step) + ".safetensors");
      Passage passage(bench.host, *evaluator, model, spec, unfinished);
      passage.run();
      const Json done = {{"metrics", to_json(finish(*evaluator, of_step, spec.count))},
                         {"elapsed_s", passage.sampling_s() + passage.evaluating_s()},
                         {"flops", sampling_flops(model, spec)}};
      io::write_text(file, done.dump(2) + "\n");
      fs::remove(unfinished);
    }
    const auto done = Json::parse(io::read_document(file));
    for (const auto& metric : done.at("metrics")) metrics.push_back(metric);
    elapsed_s += done.at("elapsed_s").get<double>();
    flops += done.at("flops").get<double>();
  }
  write_metrics(folder, metrics);
  for (const auto step : steps) fs::remove(folder / ("step-" + std::to_string(step) + ".json"));
  manifest.elapsed_s = elapsed_s;
  manifest.flops = flops;
  manifest.steps = std::int64_t(steps.size()) * spec.count;
}

std::vector<MetricRecord> read_metrics(const fs::path& folder) {
  const auto file = folder / kMetricsFile;
  try {
    return metrics_of(Json::parse(io::read_document(file)));
  } catch (const Json::exception& error) {
    throw DataError(file.string(), std::string("not a list of metrics: ") + error.what());
  }
}

}  // namespace dkdm::run
