// dkdm eval: metrics of sample sets against a reference.
#include <algorithm>
#include <cmath>
#include <optional>
#include <sstream>

#include "cli/commands.hpp"
#include "cli/image_sets.hpp"
#include "cli/measure.hpp"
#include "cli/session.hpp"
#include "log/log.hpp"
#include "run/progress.hpp"
#include "stages/feed.hpp"

namespace dkdm::cli {
namespace {

namespace po = boost::program_options;

std::vector<std::string> asked_metrics(const Options& options) {
  std::vector<std::string> names;
  if (!options.has("metrics")) return names;
  std::istringstream text(options.get<std::string>("metrics"));
  for (std::string name; std::getline(text, name, ',');)
    if (!name.empty()) names.push_back(name);
  if (names.empty()) throw ConfigError("--metrics", "names no metric");
  return names;
}

// An evaluator that declares `metrics` computes only what is asked for.
plugin::PluginChoice choose_evaluator(const Options& options, Context& context,
                                      const std::vector<std::string>& asked) {
  const auto& info = context.registry().find("evaluator", options.get<std::string>("evaluator"));
  const bool selects = std::any_of(info.params.begin(), info.params.end(),
                                   [](const Param& param) { return param.name == "metrics"; });
  std::map<std::string, Value> given;
  if (selects && !asked.empty()) given["metrics"] = asked;
  return choose_plugin(info, overrides_of(options), given);
}

// Of `metrics`, those that were asked for (all if none were), in that order.
std::vector<Metric> selected(const std::vector<Metric>& metrics,
                             const std::vector<std::string>& asked, const std::string& evaluator) {
  if (asked.empty()) return metrics;
  std::vector<Metric> chosen;
  for (const auto& name : asked) {
    const auto before = chosen.size();
    // "fid" brings what belongs to it: "fid_low", "fid_high".
    for (const auto& metric : metrics)
      if (metric.name == name || metric.name.starts_with(name + "_")) chosen.push_back(metric);
    if (chosen.size() > before) continue;
    std::string known;
    for (const auto& metric : metrics) known += (known.empty() ? "" : ", ") + metric.name;
    throw ConfigError("--metrics " + name,
                      "evaluator " + evaluator + " gives, with this reference, " + known);
  }
  return chosen;
}

results::Cell value_cell(double value) {
  results::Cell cell(results::fixed(value, 4));
  cell.raw = results::shortest(value);
  return cell;
}

results::Table table_of(const std::vector<Measured>& sets, const Evaluator& evaluator) {
  const auto right = results::Align::right;
  results::Table table;
  table.columns = {{"metric"},
                   {"samples"},
                   {"value", right, true},
                   {"std", right, true},
                   {"sample_count", right, true},
                   {"reference_count", right, true},
                   {"protocol"},
                   {"reference"},
                   {"seconds", right, true}};
  const auto reference_count = evaluator.reference_count() > 0
                                   ? results::Cell(std::to_string(evaluator.reference_count()))
                                   : results::Cell();
  const auto add = [&](const std::string& metric, const std::string& name, std::int64_t count,
                       double value, std::optional<double> spread, double seconds) {
    results::Cell time(results::fixed(seconds, 1));
    time.raw = results::shortest(seconds);
    // Its sample count is part of a metric's name.
    table.rows.push_back({metric + "@" + std::to_string(count), name, value_cell(value),
                          spread ? value_cell(*spread) : results::Cell(), std::to_string(count),
                          reference_count, evaluator.protocol(),
                          evaluator.reference_fingerprint().substr(0, 12), time});
  };
  for (std::size_t i = 0; i < sets.front().metrics.size(); ++i) {
    double sum = 0, seconds = 0;
    bool same_count = true;
    for (const auto& set : sets) {
      add(set.metrics[i].name, set.samples->name, set.count, set.metrics[i].value, std::nullopt,
          set.seconds);
      sum += set.metrics[i].value;
      seconds += set.seconds;
      same_count &= set.count == sets.front().count;
    }
    // Values of other sample counts have another bias: they have no mean.
    if (sets.size() == 1 || !same_count) continue;
    const double mean = sum / double(sets.size());
    double squares = 0;
    for (const auto& set : sets) squares += std::pow(set.metrics[i].value - mean, 2);
    add(sets.front().metrics[i].name, "mean of " + std::to_string(sets.size()), sets.front().count,
        mean, std::sqrt(squares / double(sets.size() - 1)), seconds);
  }
  return table;
}

// Grey samples may be measured by colour images: evaluators that want three channels repeat the
// one. It is rarely what was meant.
void warn_of_other_channels(const ImageSet& set, const ImageSet& reference, Host& host) {
  if (!reference.source.images) return;  // statistics do not say what they are of
  const auto ours = set.images().spec().channels, theirs = reference.source.images->spec().channels;
  if (ours == theirs) return;
  host.log(set.name, "WARNING: its images have " + std::to_string(ours) +
                         (ours == 1 ? " channel" : " channels") + ", the reference's " +
                         std::to_string(theirs));
}

// All values are known by now, so a record is whole or absent.
void record(const std::vector<Measured>& sets, const ImageSet& reference,
            const Evaluator& evaluator, const plugin::PluginChoice& choice,
            const std::string& reference_key, Session& session) {
  for (const auto& measured : sets) {
    const auto metrics = records_of(measured, evaluator);
    if (measured.samples->run) {
      session.store().record_metrics(measured.samples->run->run, metrics);
      continue;
    }
    const auto run = evaluation_record(*measured.samples, reference, choice, reference_key);
    const auto id = record_evaluation(run, metrics, choice, session);
    log::info("eval", "recorded as run " + std::to_string(id));
  }
}

}  // namespace

int cmd_eval(const Arguments& args, Context& context) {
  Options options(
      "eval SAMPLES… REFERENCE [options]",
      "FID, sFID, IS, precision and recall of sample sets. Each of SAMPLES, and REFERENCE, is an\n"
      "npz (images in arr_0; as REFERENCE also statistics: mu, sigma, mu_s, sigma_s), a folder of\n"
      "PNG, JPEG, WebP or GIF images, the number of a run, or a dataset (dkdm data list), as in\n"
      "npz:file=a.npz,images=x. Several SAMPLES give mean and standard deviation too.");
  options.add()("evaluator", po::value<std::string>()->default_value("inception"),
                "evaluator plugin")("metrics", po::value<std::string>()->value_name("A,B"),
                                    "only these, as in fid,sfid,is,precision,recall")(
      "set", po::value<std::vector<std::string>>()->composing()->value_name("KEY=VALUE"),
      "a parameter of the evaluator (dkdm plugins describe inception)")(
      "strict", "refuse too few samples instead of warning")(
      "record", "keep the values in the results database");
  add_device(options);
  options.with_format().with_words(-1);
  if (!options.parse(args)) return 0;
  take_device(options, context);
  const auto words = options.words();
  if (words.size() < 2) options.misuse("eval: name at least one sample set and the reference");

  Session session(context);
  session.choose_device();
  const auto asked = asked_metrics(options);
  const auto choice = choose_evaluator(options, context, asked);
  const auto evaluator = context.registry().evaluator(choice, session.host());
  run::Progress progress({}, record::progress_folder(context.home()), "eval");
  session.host().set_progress(&progress);
  std::vector<ImageSet> samples;
  for (auto word = words.begin(); word + 1 != words.end(); ++word)
    samples.push_back(open_images(*word, context, session.host(), progress));
  const ImageSet reference = open_images(words.back(), context, session.host(), progress);
  for (const auto& set : samples) {
    warn_of_other_channels(set, reference, session.host());
    const auto count = set.images().size();
    if (count >= evaluator->min_samples()) continue;
    if (options.has("strict"))
      throw DataError(set.name, std::to_string(count) + " samples where at least " +
                                    std::to_string(evaluator->min_samples()) +
                                    " are needed: twice the dimension of the largest feature");
    stages::warn_of_few_samples(*evaluator, count, session.host());
  }

  progress.begin("reference");
  const auto key = stages::prepare_reference(*evaluator, choice, reference.source,
                                             session.artifacts(), session.host());
  progress.end();
  std::vector<Measured> measured;
  for (const auto& set : samples) {
    progress.begin(set.name);
    measured.push_back(measure(*evaluator, set, session.host()));
    measured.back().metrics = selected(measured.back().metrics, asked, choice.name);
    progress.end();
  }
  session.host().set_progress(nullptr);
  if (options.has("record")) record(measured, reference, *evaluator, choice, key, session);
  options.print(table_of(measured, *evaluator));
  return 0;
}

}  // namespace dkdm::cli
