// dkdm plan: the stages of experiments, what is done, why the rest is not, what it costs.
#include <algorithm>
#include <cstdio>
#include <set>

#include "cli/commands.hpp"
#include "cli/evaluator_splits.hpp"
#include "cli/session.hpp"
#include "cli/sweep.hpp"
#include "results/query/runs.hpp"
#include "run/explain.hpp"
#include "run/progress.hpp"

namespace dkdm::cli {
namespace {

// Who needs a stage: rows at seeds, by the name that it has in their runs.
struct User {
  std::string row, name;
  std::int64_t seed = 0;
};

std::vector<User> users_of(std::size_t stage, const run::Plan& plan) {
  std::vector<User> users;
  for (const auto& planned : plan.runs)
    for (const auto& [name, index] : planned.stages)
      if (index == stage) users.push_back({planned.record.row, name, planned.record.seed});
  return users;
}

// The seed that a stage is of; empty where runs of several seeds share it.
results::Cell seed_of(const std::vector<User>& users) {
  for (const auto& user : users)
    if (user.seed != users.front().seed) return {};
  return users.empty() ? results::Cell() : results::Cell(std::to_string(users.front().seed));
}

// Keys under which the same rows at the same seeds had this stage before. What all rows share, any
// had.
std::set<std::string> earlier_keys(const std::vector<User>& users,
                                   const std::vector<results::RecordedStage>& recorded) {
  std::set<std::string> keys;
  for (const auto& stage : recorded)
    for (const auto& user : users) {
      const bool own = run::is_own_stage(user.name);
      if (stage.name == user.name && (!own || (stage.row == user.row && stage.seed == user.seed)))
        keys.insert(stage.key);
    }
  return keys;
}

// What sets each of several configurations of a file apart: "row.dynamic.method.rho=0.1"; "" for
// one alone.
std::vector<std::string> titles_of(const std::vector<std::vector<std::string>>& overrides) {
  std::vector<std::string> titles;
  for (const auto& own : overrides) {
    std::string title;
    for (const auto& text : own) {
      const bool common = std::all_of(overrides.begin(), overrides.end(), [&](const auto& other) {
        return std::find(other.begin(), other.end(), text) != other.end();
      });
      if (!common) title += (title.empty() ? "" : ", ") + text;
    }
    titles.push_back(std::move(title));
  }
  return titles;
}

results::Table plan_table(const Session::Planned& planned, const std::string& configuration,
                          const record::ArtifactStore& artifacts,
                          const std::vector<results::RecordedStage>& recorded, double tflops) {
  const auto missing = run::missing_stages(planned.plan, artifacts);
  const std::set<std::size_t> to_run(missing.begin(), missing.end());
  const auto right = results::Align::right;
  results::Table table;
  table.columns = {{"stage"}, {"seed", right, true}, {"state"}, {"estimate", right, true}, {"why"},
                   {"key"}};
  double seconds = 0;
  for (std::size_t i = 0; i < planned.plan.stages.size(); ++i) {
    const auto& stage = planned.plan.stages[i];
    const bool run = to_run.contains(i);
    const bool there = stage.find(artifacts).has_value();
    const auto users = users_of(i, planned.plan);
    // Samples that go straight into the evaluator are no work of their own; what only cells of an
    // earlier configuration need stands there.
    if (users.empty() || (stage.streamed && !run && !there)) continue;
    results::Cell estimate;
    if (run) {
      seconds += stage.estimated_s;
      estimate = run::duration_text(stage.estimated_s);
      estimate.raw = results::shortest(stage.estimated_s);
    }
    table.rows.push_back(
        {stage.label, seed_of(users),
         run     ? "to run"
         : there ? "done"
                 : "not needed",
         estimate, run ? run::why_missing(stage, artifacts, earlier_keys(users, recorded)) : "",
         stage.key});
  }
  table.title = planned.experiment.name + (configuration.empty() ? "" : ", " + configuration) +
                ": " + counted(planned.plan.runs.size(), "run") + ", " +
                counted(missing.size(), "stage") + " to run";
  if (!missing.empty()) table.title += ", about " + run::duration_text(seconds);
  if (!missing.empty() && tflops > 0)
    table.title += " at " + results::shortest(tflops) + " TFLOP/s";
  return table;
}

// --rows and --seeds as the overrides that they come to.
std::vector<std::string> selection_overrides(const Options& options) {
  const auto selection = selection_of(options);
  std::vector<std::string> overrides;
  if (!selection.rows.empty())
    overrides.push_back("experiment.rows=" + to_text(Value(selection.rows)));
  if (!selection.seeds.empty())
    overrides.push_back("experiment.seeds=" + to_text(Value(selection.seeds)));
  return overrides;
}

int print_resolved(const Options& options, Context& context) {
  if (options.format() != results::Format::text || options.has("shard"))
    options.misuse("--resolved prints whole experiments as TOML, without --format and --shard");
  const auto selection = selection_overrides(options);
  const char* between = "";
  for (const auto& file : experiment_files(options, context))
    for (const auto& overrides : configurations(file, overrides_of(options), context)) {
      auto selected = overrides;
      selected.insert(selected.end(), selection.begin(), selection.end());
      std::printf("%s# %s", between, file.c_str());
      for (const auto& text : overrides) std::printf(" --set %s", text.c_str());
      std::printf("\n%s", read_experiment(file, selected, context).annotated.c_str());
      between = "\n";
    }
  return 0;
}

}  // namespace

int cmd_plan(const Arguments& args, Context& context) {
  Options options(
      "plan FILE… [options]",
      "Lists the stages that the experiments need: the seed where a stage belongs to one, what\n"
      "is done, why the rest is not (what differs from this experiment's earlier runs of the\n"
      "same row and seed), and the estimated cost, in seconds in csv and json: measured on this\n"
      "machine, or with --tflops from operations at the rate of another.\n"
      "Samples that go straight into the evaluator are no stage of their own.");
  add_selection(options);
  options.add()("resolved",
                "print each experiment as it is understood, bases, sweeps and defaults included, "
                "with the place that each value comes from; nothing is planned");
  options.add_real("tflops", "N", 0, 0, 1e9,
                   "estimate for a machine that sustains N x 10^12 floating-point operations a "
                   "second in the networks (training a UNet, an A100 sustains about 100 in 16 "
                   "bits); 0 = measure this machine");
  options.with_words(-1).with_format();
  if (!options.parse(args)) return 0;
  if (options.has("resolved")) return print_resolved(options, context);
  const double tflops = options.real("tflops");
  Session session(context, tflops);
  results::Table all;  // for programs: one table, whatever the number of experiments
  const auto files = experiment_files(options, context);
  // All plugins first: modules are tried in a child process, which has none of the threads that
  // measuring what the first file costs starts.
  for (const auto& file : files)
    read_experiment(file, cli::configurations(file, overrides_of(options), context).front(),
                    context);
  for (const auto& file : files) {
    const auto planned = session.plan_all(file, overrides_of(options), selection_of(options));
    const auto& name = planned.front().experiment.name;
    std::vector<results::RecordedStage> recorded;
    std::error_code absent;
    if (std::filesystem::exists(context.database(), absent))
      recorded = results::recorded_stages(context.database(), name);
    const auto titles = titles_of(cli::configurations(file, overrides_of(options), context));
    for (std::size_t i = 0; i < planned.size(); ++i) {
      auto table = plan_table(planned[i], titles[i], session.artifacts(), recorded, tflops);
      if (options.format() == results::Format::text) {
        options.print(table);
        continue;
      }
      all.columns = table.columns;
      for (auto& row : table.rows) {
        row.insert(row.begin(), {name, titles[i]});
        all.rows.push_back(std::move(row));
      }
    }
    say_evaluator_splits(context, name);
  }
  if (options.format() == results::Format::text) return 0;
  all.columns.insert(all.columns.begin(),
                     {results::Column{"experiment"}, results::Column{"configuration"}});
  options.print(all);
  return 0;
}

}  // namespace dkdm::cli
