#include "run/limits.hpp"

#include <algorithm>
#include <cmath>
#include <map>

#include "dkdm/memory.hpp"
#include "model/image_limits.hpp"
#include "run/footprint.hpp"

namespace dkdm::run {
namespace {

constexpr std::size_t kMostRuns = 100000;
constexpr std::int64_t kMostEvaluations = 10000;  // of one training, as it goes

// Of the folder, or of the nearest above it that is there.
std::filesystem::space_info disk_of(std::filesystem::path folder) {
  std::error_code error;
  for (folder = std::filesystem::absolute(folder);
       !std::filesystem::exists(folder, error) && folder.has_relative_path();)
    folder = folder.parent_path();
  return std::filesystem::space(folder, error);
}

class Limits {
 public:
  Limits(const config::Experiment& experiment, const stages::StageContext& context,
         Sources& sources, CostModel& cost, const std::filesystem::path& store)
      : experiment_(experiment), context_(context), sources_(sources), cost_(cost),
        disk_(disk_of(store)), file_(experiment.file.string()) {}

  void check(std::size_t seeds) const {
    check_sample_counts();
    if (seeds * experiment_.rows.size() > kMostRuns)
      throw ConfigError(file_, std::to_string(experiment_.rows.size()) + " rows with " +
                                   std::to_string(seeds) + " seeds are " +
                                   std::to_string(seeds * experiment_.rows.size()) +
                                   " runs, expected at most " + std::to_string(kMostRuns));
    for (const config::Row& row : experiment_.rows) {
      const ImageSpec spec = sources_.spec(row);
      if (row.training) check_evaluations("row \"" + row.id + '"', row);
      if (spec.values() == 0 && !sources_.unknown_spec(row).empty()) continue;
      model::check_shape(spec, file_ + (row.dataset ? ": dataset " + row.dataset->name
                                                    : ": row \"" + row.id + '"'));
      const std::string section = "row \"" + row.id + '"';
      if (row.teacher && row.teacher->training)
        check_training("[teacher]", *row.teacher->training, row, spec);
      const bool kept = row.training && sources_.needs(*row.training).synthetic;
      const auto stated = row.synthetic.integer("count");
      check_sampling("[synthetic]", row.synthetic, spec, kept,
                     kept && stated == 0 ? sources_.image_count(row) : stated);
      if (row.training) check_training(section, *row.training, row, spec);
      check_sampling(section, row.sample, spec, row.sample.flag("save"),
                     row.sample.integer("count"));
    }
  }

 private:
  // Too few samples for a published table would show only after days of training. At desk scale
  // they are a person's choice: the evaluation warns.
  void check_sample_counts() const {
    if (experiment_.scale != "paper") return;
    std::map<std::string, std::int64_t> known;  // evaluators may read weights to say it
    for (const auto& row : experiment_.rows) {
      auto& least = known[row.evaluator.name + '\n' + row.evaluator.params.canonical()];
      if (least == 0)
        least = context_.registry.evaluator(row.evaluator, context_.host)->min_samples();
      if (const auto count = row.sample.integer("count"); count < least)
        throw ConfigError(experiment_.file.string(),
                          "row \"" + row.id + "\": sample.count = " + std::to_string(count) +
                              ", but at scale \"paper\" the evaluator " + row.evaluator.name +
                              " needs at least " + std::to_string(least) +
                              " samples (twice its largest feature dimension)");
    }
  }

  void check_training(const std::string& section, const config::Training& training,
                      const config::Row& row, const ImageSpec& spec) const {
    const std::string where = file_ + ": " + section;
    NetworkSize size;
    try {
      size = cost_.size(training.student, {spec, row.diffusion});
    } catch (const ConfigError& error) {
      throw ConfigError(where, error.what());
    }
    require_memory(static_cast<double>(size.bytes) * kTrainingCopies,
                   where + ": training " + training.student.name + ", " +
                       std::to_string(size.parameters) +
                       " parameters in 5 copies (weights, gradients, two moments, average),",
                   "give it fewer or narrower layers");
    const auto batch = training.train.integer("batch");
    require_memory(
        values_of(spec, batch) * sizeof(float) * kTrainingTensors,
        where + ": train.batch = " + std::to_string(batch) + " images of " + text_of(spec),
        "give a smaller batch");
    const auto method = context_.registry.method(training.method, context_.host);
    require_memory(method->held_bytes(row.diffusion, spec, batch),
                   where + ": what " + training.method.name + " keeps for train.batch = " +
                       std::to_string(batch) + " and images of " + text_of(spec),
                   "give a smaller batch, or smaller parameters of the method");
  }

  // Sets that are kept go to disk as they are drawn, in parts and then as a whole; what is in
  // memory is a batch.
  void check_sampling(const std::string& section, const Params& sample, const ImageSpec& spec,
                      bool kept, std::int64_t count) const {
    const auto batch = std::min(sample.integer("batch"), std::max<std::int64_t>(count, 1));
    const std::string where = file_ + ": " + section + ": ";
    require_memory(values_of(spec, batch) * sizeof(float) * kSamplingTensors,
                   where + "sampling with batch = " + std::to_string(batch) + " and images of " +
                       text_of(spec),
                   "give a smaller batch");
    constexpr double kGB = 1e9, kCopies = 2;
    if (const double bytes = kCopies * values_of(spec, count);
        kept && bytes > double(disk_.capacity))
      throw ConfigError(file_, section + ": count = " + std::to_string(count) + " images of " +
                                   text_of(spec) + " take " +
                                   std::to_string(std::llround(bytes / kGB)) +
                                   " GB of disk while they are drawn, the disk has " +
                                   std::to_string(std::llround(double(disk_.capacity) / kGB)) +
                                   "; give a smaller count, or a DKDM_HOME elsewhere");
  }

  void check_evaluations(const std::string& section, const config::Row& row) const {
    const auto every = row.evaluate.integer("every"), steps = row.training->train.integer("steps");
    if (every == 0 || steps / every <= kMostEvaluations) return;
    throw ConfigError(file_, section + ": evaluate.every = " + std::to_string(every) +
                                 " of train.steps = " + std::to_string(steps) + " is " +
                                 std::to_string(steps / every) + " evaluations, expected at most " +
                                 std::to_string(kMostEvaluations) + "; evaluate less often");
  }

  const config::Experiment& experiment_;
  const stages::StageContext& context_;
  Sources& sources_;
  CostModel& cost_;
  const std::filesystem::space_info disk_;
  const std::string file_;
};

}  // namespace

void check_limits(const config::Experiment& experiment, const stages::StageContext& context,
                  Sources& sources, CostModel& cost, std::size_t seeds,
                  const std::filesystem::path& store) {
  Limits(experiment, context, sources, cost, store).check(seeds);
}

}  // namespace dkdm::run
