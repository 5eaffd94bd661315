#include "cli/isolate.hpp"

#include <algorithm>
#include <cstdio>

#include "cli/child.hpp"
#include "cli/signals.hpp"
#include "cli/sweep.hpp"
#include "cli/worker_report.hpp"
#include "device/environment.hpp"
#include "error_text.hpp"
#include "plugin/host_state.hpp"
#include "record/content_key.hpp"
#include "results/report/report.hpp"
#include "run/run_record.hpp"

namespace dkdm::cli {
namespace {

namespace fs = std::filesystem;

// An experiment file under one set of overrides.
struct Configuration {
  config::Experiment experiment;
  std::vector<std::string> overrides;
};

// Rows of one seed that one process makes.
struct Batch {
  std::vector<std::string> rows;
  std::int64_t seed = 0;
};

// What planning a whole experiment gave before its rows are made.
struct Ahead {
  std::int64_t request = 0;  // in the database; 0 = none yet
  bool planned = false;      // and everything said about it
};

class Supervisor {
 public:
  Supervisor(Context& context, const Options& options, const run::RunOptions& run_options)
      : context_(context), command_(options.command()), overrides_(overrides_of(options)),
        selection_(selection_of(options)), all_(options.has("isolate")), run_options_(run_options) {
  }

  int run(const std::vector<fs::path>& files) {
    std::vector<std::vector<Configuration>> experiments;
    for (const auto& file : files) {
      auto& made = experiments.emplace_back();
      for (const auto& overrides : configurations(file, overrides_, context_))
        made.push_back({read_experiment(file, overrides, context_), overrides});
    }
    for (const auto& info : context_.registry().plugins()) plugin_files_.push_back(info.file);
    std::vector<Ahead> ahead;
    for (const auto& experiment : experiments) {
      ahead_ = {};
      if (const int code = look_ahead(experiment.front().experiment)) return code;
      if (ahead_.request == 0)  // its cells are added as they are planned
        ahead_.request =
            results::Store(context_.database())
                .begin_request(run::record_of(experiment.front().experiment), command_);
      ahead.push_back(ahead_);
    }
    for (std::size_t i = 0; i < experiments.size(); ++i) {
      ahead_ = ahead[i];
      several_ = experiments[i].size() > 1;
      row_files_.clear();
      for (const auto& configuration : experiments[i]) {
        for (const Batch& batch : batches(configuration.experiment)) {
          if (const int code = make(configuration, batch)) return code;
          if (failed_ > 0 && run_options_.fail_fast) break;
        }
        if (failed_ > 0 && run_options_.fail_fast) break;
      }
      print_results(context_, experiments[i].front().experiment.name,
                    results::requested_cells(context_.database(), ahead_.request),
                    record::ArtifactStore(context_.home()), row_files_);
      if (failed_ > 0 && run_options_.fail_fast) break;
    }
    return static_cast<int>(failed_ ? ExitCode::run_failed : ExitCode::done);
  }

 private:
  ChildEnd child(const std::function<int(const SendLine&)>& work,
                 const std::function<void(const std::string&)>& heard) const {
    const ChildEnd end = in_child(work, heard, plugin_files_);
    const bool interrupted = end.exit_code == static_cast<int>(ExitCode::interrupted);
    if (stop_requested || (end.returned && interrupted)) throw Interrupted();
    return end;
  }

  // Checks the whole plan, as without isolation, announces it and records what it asks for. A crash
  // is left to the rows.
  int look_ahead(const config::Experiment& experiment) {
    const auto work = [&](const SendLine& say) {
      Session session(context_);
      const auto planned = session.plan_all(experiment.file, overrides_, selection_);
      announce(planned, session.artifacts());
      const auto asked = asked_cells(planned);
      const auto request = session.store().begin_request(asked.front(), command_);
      session.store().add_to_request(request, asked);
      say("request\t" + std::to_string(request));
      return 0;
    };
    const ChildEnd end = child(work, [&](const std::string& line) {
      const auto parts = fields(line);
      if (parts[0] == "request") ahead_.request = std::stoll(parts[1]);
    });
    ahead_.planned = end.returned;
    if (end.returned) return end.exit_code;
    std::fprintf(stderr, "%s: cannot be planned as a whole: %s; its rows are tried one by one\n",
                 experiment.name.c_str(), crash_message(end, "").c_str());
    return 0;
  }

  std::vector<Batch> batches(const config::Experiment& experiment) const {
    // Of each seed first the rows that share a process, then the others.
    std::vector<Batch> made, alone;
    const auto cells = run::selected_cells(experiment, selection_);
    for (std::size_t i = 0; i < cells.size();) {
      const auto seed = cells[i].seed;
      Batch together{{}, seed};
      alone.clear();
      for (; i < cells.size() && cells[i].seed == seed; ++i) {
        const auto& row = experiment.rows[cells[i].row];
        if (!cells[i].here) continue;
        if (all_ || row.isolate) alone.push_back({{row.id}, seed});
        else together.rows.push_back(row.id);
      }
      if (!together.rows.empty()) made.push_back(together);
      made.insert(made.end(), alone.begin(), alone.end());
    }
    return made;
  }

  // Runs `batch`; what dies in it is recorded and the rest goes on. Returns the exit code of an
  // error that ends the suite (nothing can be recorded), else 0.
  int make(const Configuration& configuration, const Batch& batch) {
    WorkerReport heard;
    const auto hear = [&](const std::string& line) { take(line, heard); };
    const auto work = [&](const SendLine& say) { return make_here(configuration, batch, say); };
    const ChildEnd end = child(work, hear);
    if (heard.over) return 0;
    const bool planned = heard.run.has_value(), crashed = heard.error.empty();
    if (!crashed && (planned || end.exit_code == static_cast<int>(ExitCode::run_failed)))
      return end.exit_code;

    const std::string message = crashed ? crash_message(end, heard.stage.plugin) : heard.error;
    std::vector<std::string> rest;
    if (planned) {
      record_crash(heard, message);
      rest.assign(std::find(batch.rows.begin(), batch.rows.end(), heard.row) + 1, batch.rows.end());
    } else if (batch.rows.size() == 1) {
      if (const int code =
              record_unplanned(configuration.experiment, batch.rows[0], batch.seed, message))
        return code;
    } else {
      rest = batch.rows;
    }
    if (failed_ > 0 && run_options_.fail_fast) return 0;
    for (const auto& row : rest)
      if (const int code = make(configuration, {{row}, batch.seed})) return code;
    return 0;
  }

  // In the child.
  int make_here(const Configuration& configuration, const Batch& batch, const SendLine& say) const {
    const plugin::StdoutAside only_the_parent_prints;
    try {
      Session session(context_);
      auto planned =
          session.plan(configuration.experiment.file, configuration.overrides,
                       {.rows = batch.rows, .seeds = {batch.seed}},
                       ahead_.planned ? Session::Estimate::again : Session::Estimate::measured);
      session.store().add_to_request(ahead_.request, planned.plan.asked);
      session.store().set_force(run_options_.force);
      ForwardingRecorder recorder(session.store(), say);
      planned.context.recorder = &recorder;
      const auto summary =
          run::run_plan(planned.plan, planned.context, session.host(), session.artifacts(),
                        session.plugin_records(), run_options_);
      for (const auto& [row, file] : row_files(planned, session.artifacts(), several_))
        say("file\t" + row + '\t' + file.string());
      say("over");
      return static_cast<int>(summary.interrupted ? ExitCode::interrupted : ExitCode::done);
    } catch (...) {
      say("error\t" + current_error_text());
      throw;
    }
  }

  void take(const std::string& line, WorkerReport& heard) {
    const auto parts = fields(line);
    const std::string& what = parts[0];
    if (heard.take(line)) {
      failed_ += what == "end" && parts[1] == "failed";
    } else if (what == "failed") {
      run_options_.failed_stages[parts[1]] = line.substr(what.size() + parts[1].size() + 2);
    } else if (what == "file") {
      row_files_.emplace_back(parts[1], parts[2]);
    } else if (what == "over") {
      heard.over = true;
    } else if (what == "error") {
      heard.error = line.substr(what.size() + 1);
    }
  }

  // Names the plugin whose code it was, else the one that was called, else the one that the stage
  // is of.
  std::string crash_message(ChildEnd end, const std::string& stage_plugin) const {
    for (const auto& info : context_.registry().plugins()) {
      if (end.module.empty() || info.file != end.module) continue;
      if (end.plugin != info.name) end.stage.clear();
      end.plugin = info.name;
    }
    if (end.plugin.empty()) end.plugin = stage_plugin;
    return death_text(end);
  }

  void say_failed(const std::string& row, std::int64_t seed, const std::string& stage,
                  const std::string& message) {
    ++failed_;
    std::fprintf(stderr, "failed: %s, seed %lld, %s: %s\n", row.c_str(),
                 static_cast<long long>(seed), stage.c_str(), message.c_str());
  }

  void record_crash(const WorkerReport& heard, const std::string& message) {
    results::Store store(context_.database());
    record_death(store, heard, message);
    ++failed_;
    if (!heard.stage.name.empty()) run_options_.failed_stages[heard.stage.key] = message;
  }

  // Where the run was to be made. Without the device that was asked for, which may be what it
  // failed of, this machine.
  record::EnvironmentRecord environment_of(const config::Experiment& experiment) const {
    try {
      return device::environment(context_.device(experiment.device));
    } catch (const ConfigError&) {
      return device::environment(at::kCPU);
    }
  }

  // A run that died while it was planned (a network's constructor, as a rule) has no content key:
  // its configuration stands for it. Returns the exit code of recording it.
  int record_unplanned(const config::Experiment& experiment, const std::string& id,
                       std::int64_t seed, const std::string& message) {
    const auto row = std::find_if(experiment.rows.begin(), experiment.rows.end(),
                                  [&](const config::Row& other) { return other.id == id; });
    record::RunRecord record = run::record_of(experiment, *row, seed);
    record.key = record::content_key({{"stage", "plan"},
                                      {"config", experiment.resolved},
                                      {"row", id},
                                      {"seed", std::to_string(seed)}});
    record.teacher = row->teacher ? row->teacher->plugin.name : "";
    // In a child too: looking at the environment starts threads, which no later fork would have.
    const auto record_it = [&](const SendLine&) {
      results::Store store(context_.database());
      store.add_to_request(ahead_.request, {record});
      const auto run = store.begin_run(record, environment_of(experiment), {});
      store.end_run(run, "failed", "plan", message);
      return 0;
    };
    const int code = child(record_it, [](const std::string&) {}).exit_code;
    if (code == 0) say_failed(id, seed, "plan", message);
    return code;
  }

  Context& context_;
  const std::string command_;
  const std::vector<std::string> overrides_;
  const run::Selection selection_;
  const bool all_;
  run::RunOptions run_options_;
  std::vector<fs::path> plugin_files_;
  RowFiles row_files_;
  Ahead ahead_;           // of the experiment at hand
  bool several_ = false;  // configurations of the experiment at hand
  std::int64_t failed_ = 0;
};

}  // namespace

bool asks_for_isolation(Context& context, const std::vector<fs::path>& files,
                        const Options& options) {
  if (options.has("isolate")) return true;
  return std::any_of(files.begin(), files.end(), [&](const fs::path& file) {
    // Sweeps are of values, and all configurations have the same rows.
    const auto first = configurations(file, overrides_of(options), context).front();
    const auto experiment = read_experiment(file, first, context);
    return std::any_of(experiment.rows.begin(), experiment.rows.end(),
                       [](const config::Row& row) { return row.isolate; });
  });
}

int run_isolated(Context& context, const std::vector<fs::path>& files, const Options& options,
                 const run::RunOptions& run_options) {
  return Supervisor(context, options, run_options).run(files);
}

}  // namespace dkdm::cli
