#include "cli/measure.hpp"

#include <cmath>

#include "device/environment.hpp"
#include "io/plain_text.hpp"
#include "record/clock.hpp"
#include "stages/feed.hpp"

namespace dkdm::cli {

namespace fs = std::filesystem;

Measured measure(Evaluator& evaluator, const ImageSet& samples, Host& host) {
  const auto started = record::Clock::now();
  const Dataset& images = samples.images();
  evaluator.reset();
  stages::add_images(evaluator, images, 0, images.size(), host);
  Measured measured{&samples, images.size(), 0, evaluator.finish()};
  measured.seconds = record::seconds_since(started);
  for (const auto& metric : measured.metrics)
    if (!std::isfinite(metric.value))
      throw Error(samples.name + ": " + metric.name + " is not a finite number");
  return measured;
}

std::vector<record::MetricRecord> records_of(const Measured& measured, const Evaluator& evaluator) {
  std::vector<record::MetricRecord> records;
  for (const auto& metric : measured.metrics) {
    record::MetricRecord record;
    record.name = metric.name;
    record.value = metric.value;
    record.higher_is_better = metric.higher_is_better;
    record.unit = metric.unit;
    record.protocol = evaluator.protocol();
    record.reference = evaluator.reference_fingerprint();
    record.sample_count = measured.count;
    if (measured.samples->run) {
      record.step = measured.samples->run->samples.step;
      record.weights = measured.samples->run->samples.weights;
    }
    records.push_back(std::move(record));
  }
  return records;
}

record::RunRecord evaluation_record(const ImageSet& samples, const ImageSet& reference,
                                    const plugin::PluginChoice& choice,
                                    const std::string& reference_key) {
  std::string command = "dkdm eval " + io::shell_quoted(samples.name) + " " +
                        io::shell_quoted(reference.name) + " --evaluator " + choice.name;
  for (const auto& [name, value] : choice.params.values())
    command += " --set " + io::shell_quoted(name + "=" + to_text(value));
  const auto fingerprint = samples.images().fingerprint();
  record::RunRecord record;
  record.key = record::content_key({{"stage", "eval"},
                                    {"samples", fingerprint},
                                    {"evaluator", reference_key},
                                    {"parameters", choice.params.canonical()}});
  record.samples = record.variant = record::content_key({{"samples", fingerprint}});
  record.experiment = "eval";
  record.title = "Sample sets evaluated by hand";
  record.scale = "desk";
  record.row = samples.name;
  record.label = fs::path(samples.name).filename().string();
  record.evaluator = choice.name;
  record.config = "[evaluation]\ncommand = " + to_text(Value(command)) +
                  "\nsamples = " + to_text(Value(samples.source.recipe)) +
                  "\nreference = " + to_text(Value(reference.source.recipe)) +
                  "\n\n[evaluator]\nplugin = " + to_text(Value(choice.name)) + "\n" +
                  choice.params.canonical();
  return record;
}

std::int64_t record_evaluation(const record::RunRecord& run,
                               const std::vector<record::MetricRecord>& metrics,
                               const plugin::PluginChoice& choice, Session& session) {
  auto plugins = session.plugin_records();
  std::erase_if(plugins, [&](const record::PluginRecord& plugin) {
    return plugin.kind != "evaluator" || plugin.name != choice.name;
  });
  const auto id =
      session.store().begin_run(run, device::environment(session.host().device()), plugins);
  session.store().record_metrics(id, metrics);
  session.store().end_run(id, "done", "", "");
  return id;
}

}  // namespace dkdm::cli
