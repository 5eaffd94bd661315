// dkdm plan: the stages of experiments, what is done, why the rest is not, what it costs.
#include <algorithm>
#include <boost/algorithm/string/join.hpp>
#include <cmath>
#include <cstdio>
#include <optional>
#include <set>

#include "cli/commands.hpp"
#include "cli/evaluator_splits.hpp"
#include "cli/memory_table.hpp"
#include "cli/session.hpp"
#include "cli/sweep.hpp"
#include "config/number.hpp"
#include "results/query/runs.hpp"
#include "run/device_memory.hpp"
#include "run/explain.hpp"
#include "run/footprint.hpp"
#include "run/progress.hpp"

namespace dkdm::cli {
namespace {

namespace po = boost::program_options;

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

// Empty for what is unknown.
results::Cell cell_of(double value, const std::string& text) {
  if (std::isnan(value)) return {};
  results::Cell cell(text);
  cell.raw = results::shortest(value);
  return cell;
}

// What all stages to run take together. What is unknown of some makes it the least.
struct Total {
  double seconds = 0, disk = 0, working = 0, memory = 0;
  bool is_least = false;

  void add(const stages::Stage& stage) {
    const auto& footprint = stage.footprint;
    for (const double value :
         {stage.estimated_s, footprint.disk, footprint.working, footprint.memory()})
      is_least = is_least || std::isnan(value);
    if (!std::isnan(stage.estimated_s)) seconds += stage.estimated_s;
    if (!std::isnan(footprint.disk)) disk += footprint.disk;
    // A comparison with what is unknown is false.
    if (footprint.working > working) working = footprint.working;
    if (footprint.memory() > memory) memory = footprint.memory();
  }

  // ", about 17:05 h at 100 TFLOP/s; 12.0 GB of disk, 3.10 GB more while a stage runs; 20.1 GB of
  // memory"
  std::string text(double tflops) const {
    std::string text = (is_least ? ", at least " : ", about ") + run::duration_text(seconds);
    if (tflops > 0) text += " at " + results::shortest(tflops) + " TFLOP/s";
    if (disk > 0) text += "; " + run::size_text(disk) + " of disk";
    if (working > 0) text += ", " + run::size_text(working) + " more while a stage runs";
    if (memory > 0) text += "; " + run::size_text(memory) + " of memory";
    return text;
  }
};

// What is absent, as rows of the plan's table: for programs, that have one table.
void append_needs(const std::vector<run::Need>& needs, results::Table& table) {
  for (const auto& need : needs)
    for (const auto& absent : need.absent) {
      std::vector<results::Cell> row(table.columns.size());
      row.front() = need.title();
      row[2] = "absent";
      row[row.size() - 2] = (absent.path.empty() ? "" : absent.path.string() + ": ") +
                            absent.remedy + "; for " + boost::algorithm::join(need.rows, ", ");
      table.rows.push_back(std::move(row));
    }
}

results::Table needs_table(const run::Plan& plan) {
  std::set<std::string> all;
  for (const auto& run : plan.runs) all.insert(run.record.row);
  results::Table table;
  table.title = "Needs: these files are absent, and `dkdm run` refuses to start without them";
  table.columns = {{"need"}, {"looked for"}, {"where to get it"}, {"rows"}};
  for (const auto& need : plan.needs)
    for (const auto& absent : need.absent)
      table.rows.push_back(
          {need.title(), absent.path.empty() ? "not set" : absent.path.string(), absent.remedy,
           need.rows.size() == all.size() ? "all" : boost::algorithm::join(need.rows, ", ")});
  return table;
}

results::Table plan_table(const Session::Planned& planned, const std::string& configuration,
                          const record::ArtifactStore& artifacts,
                          const std::vector<results::RecordedStage>& recorded, double tflops) {
  const auto missing = run::missing_stages(planned.plan, artifacts);
  const std::set<std::size_t> to_run(missing.begin(), missing.end());
  const auto right = results::Align::right;
  results::Table table;
  table.columns = {{"stage"},
                   {"seed", right, true},
                   {"state"},
                   {"estimate", right, true},
                   {"disk", right, true},
                   {"memory", right, true},
                   {"why"},
                   {"key"}};
  Total total;
  for (std::size_t i = 0; i < planned.plan.stages.size(); ++i) {
    const auto& stage = planned.plan.stages[i];
    const bool run = to_run.contains(i);
    const bool there = stage.find(artifacts).has_value();
    const auto users = users_of(i, planned.plan);
    // Samples that go straight into the evaluator are no work of their own; what only cells of an
    // earlier configuration need stands there.
    if (users.empty() || (stage.streamed && !run && !there)) continue;
    const bool unknown = !stage.needs.empty();
    std::vector<results::Cell> row{stage.label,
                                   seed_of(users),
                                   unknown ? "needs files"
                                   : run   ? "to run"
                                   : there ? "done"
                                           : "not needed",
                                   {},
                                   {},
                                   {},
                                   {},
                                   {}};
    if (run) {
      total.add(stage);
      row[3] = cell_of(stage.estimated_s, run::duration_text(stage.estimated_s));
      const double disk = stage.footprint.disk, memory = stage.footprint.memory();
      if (disk != 0) row[4] = cell_of(disk, run::size_text(disk));
      if (memory != 0) row[5] = cell_of(memory, run::size_text(memory));
      row[6] = unknown ? "needs " + boost::algorithm::join(stage.needs, ", ")
                       : run::why_missing(stage, artifacts, earlier_keys(users, recorded));
    }
    if (!unknown) row[7] = stage.key;
    table.rows.push_back(std::move(row));
  }
  table.title = planned.experiment.name + (configuration.empty() ? "" : ", " + configuration) +
                ": " + counted(planned.plan.runs.size(), "run") + ", " +
                counted(missing.size(), "stage") + " to run";
  if (!missing.empty()) table.title += total.text(tflops);
  return table;
}

// Appends `table` to those of other experiments and configurations, as one for programs.
void append(const std::string& experiment, const std::string& configuration, results::Table table,
            results::Table& all) {
  if (all.columns.empty()) {
    all.columns = {results::Column{"experiment"}, results::Column{"configuration"}};
    all.columns.insert(all.columns.end(), table.columns.begin(), table.columns.end());
  }
  for (auto& row : table.rows) {
    row.insert(row.begin(), {experiment, configuration});
    all.rows.push_back(std::move(row));
  }
}

int print_memory(const Options& options, Context& context) {
  std::optional<double> stated;
  if (options.has("device-memory"))
    stated = config::real_number(options.get<std::string>("device-memory"), "--device-memory", 0.1,
                                 10000);
  Session session(context);
  results::Table all;
  std::vector<std::string> shortfalls;
  const bool is_text = options.format() == results::Format::text;
  for (const auto& file : experiment_files(options, context)) {
    const auto overrides = overrides_of(options);
    const auto planned =
        session.plan_all(file, overrides, selection_of(options), Session::Estimate::sizes);
    const auto titles = titles_of(cli::configurations(file, overrides, context));
    for (std::size_t i = 0; i < planned.size(); ++i) {
      const auto memory =
          stated ? run::stated_memory(*stated) : run::memory_of(planned[i].plan.device);
      auto table = memory_table(planned[i], titles[i], memory, shortfalls);
      if (is_text) options.print(table);
      else append(planned[i].experiment.name, titles[i], std::move(table), all);
    }
  }
  if (!is_text) options.print(all);
  // stdout of the other formats is for programs.
  for (const auto& text : shortfalls) std::fprintf(is_text ? stdout : stderr, "%s\n", text.c_str());
  if (is_text) std::printf("%s\n", run::kMemoryRule);
  return 0;
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
      "same row and seed), and the estimated cost: time measured on this machine, or with --tflops\n"
      "from operations at the rate of another, disk and memory; in csv and json in seconds and\n"
      "bytes. Data and weights may be absent: they are listed as needs, with where to get them.\n"
      "Samples that go straight into the evaluator are no stage of their own.");
  add_selection(options);
  add_device(options);
  options.add()("resolved",
                "print each experiment as it is understood, bases, sweeps and defaults included, "
                "with the place that each value comes from; nothing is planned");
  options.add_real("tflops", "N", 0, 0, 1e9,
                   "estimate for a machine that sustains N x 10^12 floating-point operations a "
                   "second in the networks (training a UNet, an A100 sustains about 100 in 16 "
                   "bits); 0 = measure this machine");
  options.add()("memory",
                "what each stage takes of the device's memory, by what it is for, and whether it "
                "fits; nothing is timed, and networks may be larger than this machine")(
      "device-memory", po::value<std::string>()->value_name("GB"),
      "with --memory: of a device elsewhere, in units of 10^9 bytes (0.1 to 10000), instead of what "
      "the device here has");
  options.with_words(-1).with_format();
  if (!options.parse(args)) return 0;
  take_device(options, context);
  if (options.has("resolved")) return print_resolved(options, context);
  if (options.has("memory")) return print_memory(options, context);
  if (options.has("device-memory")) options.misuse("--device-memory is of --memory");
  const double tflops = options.real("tflops");
  Session session(context, tflops);
  bool is_estimated = false;
  results::Table all;  // for programs: one table, whatever the number of experiments
  const auto files = experiment_files(options, context);
  // All plugins first: modules are tried in a child process, which has none of the threads that
  // measuring what the first file costs starts.
  for (const auto& file : files)
    read_experiment(file, cli::configurations(file, overrides_of(options), context).front(),
                    context);
  for (const auto& file : files) {
    const auto planned = session.plan_all(file, overrides_of(options), selection_of(options),
                                          Session::Estimate::listed);
    const auto& name = planned.front().experiment.name;
    std::vector<results::RecordedStage> recorded;
    std::error_code absent;
    if (std::filesystem::exists(context.database(), absent))
      recorded = results::recorded_stages(context.database(), name);
    const auto titles = titles_of(cli::configurations(file, overrides_of(options), context));
    for (std::size_t i = 0; i < planned.size(); ++i) {
      auto table = plan_table(planned[i], titles[i], session.artifacts(), recorded, tflops);
      const auto& needs = planned[i].plan.needs;
      if (options.format() == results::Format::text) {
        options.print(table);
        if (!needs.empty()) options.print(needs_table(planned[i].plan));
        is_estimated =
            is_estimated || !run::missing_stages(planned[i].plan, session.artifacts()).empty();
        continue;
      }
      append_needs(needs, table);
      append(name, titles[i], std::move(table), all);
    }
    say_evaluator_splits(context, name);
  }
  if (options.format() == results::Format::text) {
    if (is_estimated) std::printf("%s %s\n", run::kMemoryRule, run::kDiskRule);
    return 0;
  }
  options.print(all);
  return 0;
}

}  // namespace dkdm::cli
