#include "cli/reproduce.hpp"

#include <algorithm>
#include <cstdlib>
#include <functional>

#include "cli/measure.hpp"
#include "cli/supervise.hpp"
#include "cli/worker_report.hpp"
#include "dkdm/nearest.hpp"
#include "dkdm/store_error.hpp"
#include "error_text.hpp"
#include "log/log.hpp"
#include "plugin/host_state.hpp"
#include "record/metrics_file.hpp"
#include "results/query/runs.hpp"
#include "results/store/published.hpp"
#include "run/progress.hpp"
#include "run/sources.hpp"
#include "stages/feed.hpp"
#include "stages/stages.hpp"

namespace dkdm::cli {
namespace {

namespace fs = std::filesystem;

// Parameters by which plugins are told where their files are.
constexpr const char* kPlaces[] = {"path", "root", "file", "folder", "weights"};

// Published values of a row, in the order of published.toml.
config::NamedValues published_values(const config::Experiment& experiment, const config::Row& row) {
  std::string name = row.published;
  std::replace(name.begin(), name.end(), '-', '_');
  config::NamedValues values;
  for (const auto& figure : results::published_figures())
    if (figure.section == experiment.published && figure.row == name)
      values.emplace_back(figure.metric, figure.value);
  return values;
}

std::size_t row_of(const config::Check& check, const config::Experiment& experiment) {
  std::vector<std::string> ids;
  for (std::size_t i = 0; i < experiment.rows.size(); ++i) {
    if (experiment.rows[i].id == check.row) return i;
    ids.push_back(experiment.rows[i].id);
  }
  const auto near = nearest_name(check.row, ids);
  std::string known;
  for (const auto& id : ids) known += (known.empty() ? "" : ", ") + id;
  throw ConfigError(
      check.where, "check \"" + check.id + "\": " + experiment.file.string() + " has no row \"" +
                       check.row + "\"; " +
                       (near.empty() ? "its rows are " + known : "did you mean \"" + near + "\"?"));
}

bool has_text(const Params& params, const std::string& name) {
  const auto found = params.values().find(name);
  return found != params.values().end() && std::holds_alternative<std::string>(found->second);
}

// Where a plugin's parameters say that its files are, "" where they leave it to the plugin.
std::string stated_place(const Params& params) {
  for (const char* name : kPlaces)
    if (has_text(params, name) && !params.text(name).empty()) return params.text(name);
  return "";
}

// A teacher whose plugin reads a file that nothing names.
bool lacks_path(const config::Row& row) {
  return row.teacher && !row.teacher->training && has_text(row.teacher->plugin.params, "path") &&
         row.teacher->plugin.params.text("path").empty();
}

std::string teacher_section(const config::Row& row) {
  return "teacher" + (row.teacher->name.empty() ? "" : "." + row.teacher->name);
}

// What a plugin's choice reads. `look` says where it is, or throws what is wrong; `key`: the
// section of the experiment that names it.
Need found_by(const std::string& what, const config::Check& check,
              const plugin::PluginChoice& choice, const std::string& key,
              const std::function<std::string()>& look) {
  const plugin::StdoutAside only_results_are_printed;
  Need need{what, Need::State::unusable, "", stated_place(choice.params)};
  try {
    need.text = look();
    need.state = Need::State::there;
    return need;
  } catch (const Interrupted&) {
    throw;
  } catch (const Error& error) {
    // What is there and cannot be read is another matter.
    std::error_code absent;
    if (error.exit_code() == ExitCode::missing &&
        (need.place.empty() || !fs::exists(need.place, absent)))
      need.state = Need::State::missing;
    need.text = error_text(error);
  } catch (...) {
    need.text = current_error_text();
  }
  // The plugin's name stands beside it.
  if (const auto call = choice.name + ": create: "; need.text.starts_with(call))
    need.text.erase(0, call.size());
  for (const char* name : kPlaces)
    if (need.state == Need::State::missing && has_text(choice.params, name))
      need.text += "; --set " + check.id + '.' + key + '.' + name + "=… names another place";
  return need;
}

// A dataset as `dkdm eval` takes it: its name and what its parameters are set to.
std::string eval_word(const plugin::PluginChoice& choice, const plugin::Registry& registry) {
  std::string word = choice.name;
  char before = ':';
  for (const auto& param : registry.find("dataset", choice.name).params) {
    const auto& value = choice.params.values().at(param.name);
    if (value == param.default_value) continue;
    const auto* text = std::get_if<std::string>(&value);
    word += before + param.name + '=' + (text ? *text : to_text(value));
    before = ',';
  }
  return word;
}

// An evaluator that can choose computes only what is compared.
plugin::PluginChoice narrowed(plugin::PluginChoice evaluator,
                              const std::vector<config::ExpectedValue>& expected,
                              const plugin::Registry& registry) {
  auto values = evaluator.params.values();
  const auto metrics = values.find("metrics");
  if (metrics == values.end()) return evaluator;
  std::vector<std::string> names;
  for (const auto& value : expected) names.push_back(value.metric);
  metrics->second = names;
  evaluator.params = Params(registry.find("evaluator", evaluator.name).params, values);
  return evaluator;
}

// What a command shows of itself while it computes outside of a plan.
class ShownProgress {
 public:
  ShownProgress(run::RunHost& host, const fs::path& home, const std::string& label)
      : host_(host), progress_({}, record::progress_folder(home), "reproduce") {
    host_.set_progress(&progress_);
    progress_.begin(label);
  }
  ~ShownProgress() { host_.set_progress(nullptr); }
  ShownProgress(const ShownProgress&) = delete;
  ShownProgress& operator=(const ShownProgress&) = delete;
  void next(const std::string& label) {
    progress_.end();
    progress_.begin(label);
  }
  void end() { progress_.end(); }

 private:
  run::RunHost& host_;
  run::Progress progress_;
};

std::vector<CheckedValue> compared(const ReadyCheck& check,
                                   const std::vector<record::MetricRecord>& metrics,
                                   std::optional<std::int64_t> seed, std::int64_t run) {
  std::vector<CheckedValue> values;
  for (const auto& expected : check.expected)
    values.push_back({run::compare(expected, metrics), seed, run});
  return values;
}

}  // namespace

bool ReadyCheck::can_run() const {
  return std::all_of(needs.begin(), needs.end(),
                     [](const Need& need) { return need.state == Need::State::there; });
}

std::vector<CheckedValue> all_as(const ReadyCheck& check, run::Verdict verdict,
                                 const std::string& note) {
  std::vector<CheckedValue> values;
  for (const auto& expected : check.expected) {
    CheckedValue value{{expected}, {}, {}};
    value.comparison.verdict = verdict;
    value.comparison.note = note;
    values.push_back(std::move(value));
  }
  return values;
}

ReadyCheck Reproduction::prepare(const config::Check& check, std::vector<std::string> overrides) {
  ReadyCheck ready{check, read_experiment(check.experiment, overrides, context_), 0, {}, {}, {},
                   {}};
  ready.row = row_of(check, ready.experiment);
  if (check.teacher && lacks_path(ready.of())) {
    const auto file = context_.home() / "weights" / check.teacher->name;
    overrides.push_back(teacher_section(ready.of()) + ".path=" + to_text(Value(file.string())));
    ready.experiment = read_experiment(check.experiment, overrides, context_);
  }
  ready.overrides = std::move(overrides);
  ready.expected = config::expected_values(check, published_values(ready.experiment, ready.of()));
  if (check.images) {
    if (!ready.of().dataset)
      throw ConfigError(check.where, "check \"" + check.id + "\": images: its row has no dataset");
    ready.images = config::other_images(check, *ready.of().dataset, context_.registry());
  }
  return ready;
}

Need Reproduction::need_dataset(const ReadyCheck& check, const plugin::PluginChoice& choice) {
  const auto look = [&] {
    const auto dataset = session_.stage_context().dataset(choice);
    std::string place = stated_place(choice.params);
    const char* data = std::getenv("DKDM_DATA");
    if (place.empty() && has_text(choice.params, "root") && data && *data)
      place = "in $DKDM_DATA (" + std::string(data) + ")";
    return (place.empty() ? "" : place + ": ") + std::to_string(dataset->size()) + " images, " +
           text_of(dataset->spec());
  };
  return found_by("dataset " + eval_word(choice, context_.registry()), check.check, choice,
                  "dataset", look);
}

Need Reproduction::need_statistics(const ReadyCheck& check) {
  const auto file = check.of().statistics.string();
  Need need{"reference statistics", Need::State::there, file, file};
  try {
    if (const auto reference = stages::read_reference(file); !reference.recipe.empty())
      need.text += ": " + reference.recipe;
  } catch (const Error& error) {
    std::error_code absent;
    need.state = fs::exists(file, absent) ? Need::State::unusable : Need::State::missing;
    need.text = error_text(error) + "; --set " + check.check.id +
                ".reference.statistics=FILE names another place";
  }
  return need;
}

Need Reproduction::need_evaluator(const ReadyCheck& check) {
  const auto& choice = check.of().evaluator;
  const auto look = [&] {
    // Hashes its weights, so that they have to be there.
    context_.registry().evaluator(choice, session_.host())->identity();
    const auto place = stated_place(choice.params);
    return place.empty() ? "ready" : place;
  };
  return found_by("evaluator " + choice.name, check.check, choice, "evaluator", look);
}

Need Reproduction::need_teacher(const ReadyCheck& check) {
  const auto& row = check.of();
  const auto& choice = row.teacher->plugin;
  const auto file = stated_place(choice.params);
  const auto look = [&] {
    if (lacks_path(row)) throw DataError("path", "is not set");
    context_.registry().teacher(choice, session_.host())->fingerprint();
    return file;
  };
  const auto& published = check.check.teacher;
  const auto name = published      ? published->name
                    : file.empty() ? choice.name
                                   : fs::path(file).filename().string();
  auto need = found_by("teacher " + name, check.check, choice, teacher_section(row), look);
  if (need.state == Need::State::missing && published)
    need.text += "; get " + name + " from " + published->from;
  return need;
}

void Reproduction::look_for_files(ReadyCheck& check) {
  const auto& row = check.of();
  const auto context = session_.stage_context();
  const run::Sources sources(context);
  const bool reads_images = row.dataset && sources.needs_images(row);
  check.needs.clear();
  if (!row.statistics.empty()) check.needs.push_back(need_statistics(check));
  if (reads_images) check.needs.push_back(need_dataset(check, *row.dataset));
  if (check.images &&
      !(reads_images && check.images->params.values() == row.dataset->params.values()))
    check.needs.push_back(need_dataset(check, *check.images));
  check.needs.push_back(need_evaluator(check));
  if (!check.images && row.teacher && !row.teacher->training && sources.uses_teacher(row))
    check.needs.push_back(need_teacher(check));
}

std::vector<CheckedValue> Reproduction::carry_out(const ReadyCheck& check) {
  for (const auto state : {Need::State::missing, Need::State::unusable}) {
    std::string texts;
    for (const auto& need : check.needs)
      if (need.state == state) texts += (texts.empty() ? "" : "; ") + need.what + ": " + need.text;
    if (!texts.empty())
      return all_as(
          check, state == Need::State::missing ? run::Verdict::needs_files : run::Verdict::failed,
          texts);
  }
  std::string message;
  try {
    return check.images ? evaluate_images(check) : evaluate_row(check);
  } catch (const Interrupted&) {
    throw;
  } catch (const StoreError&) {
    throw;  // what cannot be written ends the command
  } catch (...) {
    message = current_error_text();
  }
  // All that it reads is there: what is wrong now is no missing file.
  log::warn("reproduce", check.check.id + ": " + message);
  return all_as(check, run::Verdict::failed, message);
}

// The runs that `dkdm run FILE --rows ROW` makes. No request is recorded: what reports of the
// experiment show stays what a person asked for.
std::vector<CheckedValue> Reproduction::evaluate_row(const ReadyCheck& check) {
  PlannedFile planned;
  planned.push_back(session_.plan(check.check.experiment, check.overrides,
                                  {.rows = {check.check.row}, .seeds = {}}));
  auto& [experiment, context, plan] = planned.front();
  announce(planned, session_.artifacts());
  record::Recorder* recorder = &session_.store();
  std::optional<ForwardingRecorder> forwarding;
  if (const SendLine* say = supervisor()) recorder = &forwarding.emplace(session_.store(), *say);
  context.recorder = recorder;
  const auto summary = run::run_plan(plan, context, session_.host(), session_.artifacts(),
                                     session_.plugin_records(), {});
  if (summary.interrupted) throw Interrupted();
  for (const auto& [row, file] : row_files(planned.front(), session_.artifacts(), false))
    log::info("reproduce", check.check.id + ": samples in " + file.string());
  std::vector<CheckedValue> values;
  auto failure = summary.failures.begin();
  for (const auto& run : plan.runs) {
    const auto id = session_.store().finished_run(run.record);
    auto of_run =
        id ? compared(
                 check,
                 record::read_metrics(plan.stages[run.evaluate_stage].folder(session_.artifacts())),
                 run.record.seed, *id)
           : all_as(check, run::Verdict::failed,
                    failure != summary.failures.end() ? *failure++ : "did not finish");
    for (auto& value : of_run) {
      value.seed = run.record.seed;
      values.push_back(std::move(value));
    }
  }
  return values;
}

std::vector<CheckedValue> Reproduction::evaluate_images(const ReadyCheck& check) {
  const plugin::StdoutAside only_results_are_printed;
  const auto& registry = context_.registry();
  const auto& row = check.of();
  auto& host = session_.host();
  const auto context = session_.stage_context();
  run::Sources sources(context);
  const ImageSet samples{eval_word(*check.images, registry),
                         {stages::recipe_of(*check.images), context.dataset(*check.images), {}},
                         std::nullopt};
  const ImageSet reference{
      row.statistics.empty() ? eval_word(*row.dataset, registry) : row.statistics.string(),
      sources.reference(row), std::nullopt};
  const auto choice = narrowed(row.evaluator, check.expected, registry);
  const auto evaluator = registry.evaluator(choice, host);
  stages::warn_of_few_samples(*evaluator, samples.images().size(), host);

  ShownProgress progress(host, context_.home(), check.check.id + ": reference");
  const auto key =
      stages::prepare_reference(*evaluator, choice, reference.source, session_.artifacts(), host);
  auto run = evaluation_record(samples, reference, choice, key);
  run.label = check.check.label;
  if (const auto id = session_.store().finished_run(run)) {
    progress.end();
    return compared(check, results::recorded_metrics(context_.database(), *id), std::nullopt, *id);
  }
  progress.next(check.check.id + ": " + samples.name);
  const auto metrics = records_of(measure(*evaluator, samples, host), *evaluator);
  progress.end();
  const auto id = record_evaluation(run, metrics, choice, session_);
  return compared(check, metrics, std::nullopt, id);
}

}  // namespace dkdm::cli
