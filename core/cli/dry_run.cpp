#include "cli/dry_run.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <set>
#include <sstream>

#include "cli/child.hpp"
#include "cli/signals.hpp"
#include "cli/sweep.hpp"
#include "cli/worker_report.hpp"
#include "dkdm/memory.hpp"
#include "dkdm/store_error.hpp"
#include "error_text.hpp"
#include "plugin/host_state.hpp"
#include "run/footprint.hpp"
#include "run/precision_choice.hpp"
#include "run/progress.hpp"
#include "run/rehearsal.hpp"
#include "run/sources.hpp"
#include "run/teacher_files.hpp"

namespace dkdm::cli {
namespace {

namespace fs = std::filesystem;
using run::RehearsedStage;

// A store in the user's own, where a run's would be, that goes with everything in it.
class TemporaryStore {
 public:
  explicit TemporaryStore(const fs::path& home) : home_(home) {
    std::error_code error;
    made_home_ = fs::create_directories(home, error);
    std::string pattern = (home / "dry-run-XXXXXX").string();
    if (error || !::mkdtemp(pattern.data()))
      throw StoreError(home.string() +
                       ": no folder can be made here; DKDM_HOME says where results "
                       "go");
    path_ = pattern;
  }
  ~TemporaryStore() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
    if (made_home_) fs::remove(home_, ignored);  // unless something else came into it
  }
  TemporaryStore(const TemporaryStore&) = delete;
  TemporaryStore& operator=(const TemporaryStore&) = delete;
  const fs::path& path() const { return path_; }

 private:
  const fs::path home_;
  fs::path path_;
  bool made_home_ = false;
};

// Keeps nothing.
class NoRecorder final : public record::Recorder {
 public:
  std::optional<std::int64_t> finished_run(const record::RunRecord&) override { return {}; }
  std::int64_t begin_run(const record::RunRecord&, const record::EnvironmentRecord&,
                         const std::vector<record::PluginRecord>&) override {
    return 0;
  }
  void begin_stage(std::int64_t, const std::string&, const std::string&,
                   const std::string&) override {}
  void end_run(std::int64_t, const std::string&, const std::string&, const std::string&) override {}
  void record_stage(std::int64_t, const record::StageRecord&) override {}
  void record_artifact(const record::ArtifactRecord&) override {}
  void record_metrics(std::int64_t, const std::vector<record::MetricRecord>&) override {}
  void record_selection(std::int64_t, const record::SelectionRecord&) override {}
  void record_curves(const std::string&, const std::vector<record::CurvePoint>&) override {}
};

// What the child says of each stage, in fields between tabs.
std::string line_of(const RehearsedStage& stage) {
  std::string message = one_line(stage.message);
  std::replace(message.begin(), message.end(), '\t', ' ');
  std::ostringstream line;
  line << "ended\t" << static_cast<int>(stage.outcome) << '\t' << stage.seconds << '\t'
       << stage.peak_bytes << '\t' << stage.label << '\t' << message;
  return line.str();
}

const char* word(RehearsedStage::Outcome outcome) {
  switch (outcome) {
    case RehearsedStage::Outcome::ok: return "ok";
    case RehearsedStage::Outcome::failed: return "failed";
    case RehearsedStage::Outcome::left_out: return "left out";
    case RehearsedStage::Outcome::not_reached: return "not reached";
  }
  return "";
}

// What takes the place of absent files.
std::string substitute(const run::Need& need) {
  if (need.kind == "evaluator" || need.kind == "statistics") return "evaluations are left out";
  if (!need.is_known) return "nothing says what it would hold, and what needs it fails";
  return need.kind == "teacher" ? "random weights" : "random images";
}

// In the child: plans the experiment as a run would, then rehearses it cut down.
class Rehearsing {
 public:
  Rehearsing(Context& context, const fs::path& store, const SendLine& say)
      : context_(context), inner_(context.registry(), stop_requested, nullptr), host_(inner_),
        store_(store), cost_(context.registry()), say_(say) {}

  int run(config::Experiment experiment, run::Selection selection) {
    const plugin::StdoutAside only_the_parent_prints;
    inner_.set_device(context_.device(experiment.device));
    cost_.set_device(inner_.device());
    // Earlier runs are not looked at: a rehearsal may be on another machine than they.
    run::settle_teachers(
        experiment, selection, real_,
        [](const std::string&) { return std::vector<run::EarlierUse>(); }, /*say=*/false);
    run::settle_precision(experiment, inner_.device(), real_, store_.root());
    if (selection.seeds.empty()) selection.seeds = {experiment.seeds.front()};
    selection.seeds.resize(1);
    const auto plan = [&](const config::Experiment& planned, const stages::StageContext& context,
                          const run::PlanExtras& extras) {
      return run::make_plan(planned, selection, context, store_, cost_, extras);
    };
    // As a run would be planned: all of its limits, paths, schedules and options are checked.
    const auto whole = plan(experiment, real_, {.look = true, .list_needs = true});
    for (const auto& need : whole.needs)
      say_("need\t" + need.title() + '\t' +
           (need.absent.front().path.empty() ? "not set" : need.absent.front().path.string()) +
           '\t' + substitute(need));
    check_batches(experiment, whole);

    auto context = run::rehearsal_context(context_.registry(), host_, real_.dataset, recorder_);
    const auto cut = run::cut_down(experiment);
    const auto small = plan(cut, context, {.list_needs = true});
    run::rehearse(
        small, context, store_, [&](const std::string& label) { say_("begun\t" + label); },
        [&](const RehearsedStage& stage) { say_(line_of(stage)); });
    say_("begun\tmeasuring memory");
    try {
      say_memory(plan(experiment, real_, {.footprints = true, .list_needs = true}));
    } catch (const Interrupted&) {
      throw;
    } catch (const Error&) {
      // A network that cannot be run, which its stage has said.
    }
    say_("over");
    return 0;
  }

 private:
  // By the labels of the stages, which the cut plan has too.
  void say_memory(const run::Plan& plan) const {
    for (const auto& stage : plan.stages) {
      std::ostringstream line;
      line << "memory\t" << stage.label << '\t' << stage.footprint.memory();
      if (stage.footprint.memory() > 0) say_(line.str());
    }
  }

  // Of every network that is trained, or drawn from, and every size of batch, once.
  void check_batches(const config::Experiment& experiment, const run::Plan& plan) {
    run::Sources sources(real_);
    std::set<std::string> known;
    const auto check = [&](const config::Row& row, const config::Training& training,
                           const char* what, std::int64_t batch) {
      const auto spec = sources.spec(row);
      const auto& student = training.student;
      const std::string label = what + std::to_string(batch) + " of " + student.name;
      if (spec.values() == 0 ||
          !known.insert(label + student.params.canonical() + text_of(spec)).second)
        return;
      say_("begun\t" + label);
      const auto [possible, message] =
          run::check_batch(student, {spec, row.diffusion}, batch, context_.registry());
      RehearsedStage checked;
      checked.label = label;
      if (!possible) {
        checked.outcome = RehearsedStage::Outcome::left_out;
        checked.message = student.name + " does not run on LibTorch's meta device: " + message;
      } else if (!message.empty()) {
        checked.outcome = RehearsedStage::Outcome::failed;
        checked.message = student.name + ": " + message;
      }
      say_(line_of(checked));
    };
    for (const auto& planned : plan.runs) {
      const auto& row = experiment.rows.at(static_cast<std::size_t>(planned.record.row_order));
      const auto drawn = std::min(row.sample.integer("batch"), row.sample.integer("count"));
      for (const auto* training :
           {row.training ? &*row.training : nullptr,
            row.teacher && row.teacher->training ? &*row.teacher->training : nullptr}) {
        if (!training) continue;
        check(row, *training, "training batch of ", training->train.integer("batch"));
        check(row, *training, "sampling batch of ", drawn);
      }
    }
  }

  Context& context_;
  run::RunHost inner_;
  run::RehearsalHost host_;
  record::ArtifactStore store_;
  run::CostModel cost_;
  NoRecorder recorder_;
  const SendLine& say_;
  const stages::StageContext real_{context_.registry(), inner_,
                                   stages::opened_once(context_.registry(), inner_)};
};

// What the parent hears, as a table.
class Report {
 public:
  void hear(const std::string& line) {
    const auto parts = fields(line);
    if (parts[0] == "begun") {
      under_way_ = parts[1];
      std::fprintf(stderr, "dry run: %s\n", parts[1].c_str());
    } else if (parts[0] == "memory") {
      auto& most = memory_[parts[1]];
      most = std::max(most, std::stod(parts[2]));
    } else if (parts[0] == "need") {
      needs_.push_back(parts[1] + " (" + parts[2] + "): " + parts[3]);
    } else if (parts[0] == "over") {
      over_ = true;
    } else if (parts[0] == "ended") {
      under_way_.clear();
      stages_.push_back({.label = parts[4],
                         .outcome = static_cast<RehearsedStage::Outcome>(std::stoi(parts[1])),
                         .seconds = std::stod(parts[2]),
                         .peak_bytes = std::stod(parts[3]),
                         .message = parts[5]});
    }
  }

  // The child ended in the middle of its work.
  void crashed(const std::string& text) {
    if (over_) return;
    stages_.push_back({.label = under_way_.empty() ? "planning" : under_way_,
                       .outcome = RehearsedStage::Outcome::failed,
                       .message = text + "; later stages were not reached"});
  }

  bool has_failures() const {
    return std::any_of(stages_.begin(), stages_.end(), [](const auto& stage) {
      return stage.outcome == RehearsedStage::Outcome::failed;
    });
  }

  results::Table table(const std::string& name) const {
    const auto right = results::Align::right;
    const auto number = [](double value, const std::string& text) {
      if (value <= 0) return results::Cell();
      results::Cell cell(text);
      cell.raw = results::shortest(value);
      return cell;
    };
    results::Table table;
    table.title = name + ": dry run, nothing is recorded";
    table.columns = {{"stage"},
                     {"result"},
                     {"time", right, true},
                     {"memory", right, true},
                     {"of a real run", right, true},
                     {"why"}};
    for (const auto& stage : stages_) {
      const auto found = memory_.find(stage.label);
      const double needed = found == memory_.end() ? 0 : found->second;
      results::Cell result(word(stage.outcome));
      result.fault = stage.outcome == RehearsedStage::Outcome::failed;
      std::string why = stage.message;
      if (const auto machine = static_cast<double>(machine_memory()); needed > machine)
        why += (why.empty() ? "" : "; ") +
               std::string(
                   "a real run is estimated to need more memory "
                   "than the ") +
               run::size_text(machine) + " of this machine";
      table.rows.push_back({stage.label, result,
                            number(stage.seconds, run::duration_text(stage.seconds)),
                            number(stage.peak_bytes, run::size_text(stage.peak_bytes)),
                            number(needed, run::size_text(needed)), why});
    }
    return table;
  }

  void print_substitutes() const {
    for (const auto& need : needs_) std::printf("Absent: %s\n", need.c_str());
    std::printf("%s\n", run::cuts_text().c_str());
  }

 private:
  std::string under_way_;
  bool over_ = false;
  std::map<std::string, double> memory_;
  std::vector<std::string> needs_;
  std::vector<RehearsedStage> stages_;
};

}  // namespace

int dry_run(Context& context, const std::vector<fs::path>& files, const Options& options) {
  const auto selection = selection_of(options);
  bool failed = false;
  for (const auto& file : files)
    for (const auto& overrides : configurations(file, overrides_of(options), context)) {
      const auto experiment = read_experiment(file, overrides, context);
      std::vector<fs::path> modules;
      for (const auto& info : context.registry().plugins()) modules.push_back(info.file);
      // In a process of its own, so that the store goes even where a plugin ends the process.
      const TemporaryStore store(context.home());
      Report report;
      const auto work = [&](const SendLine& say) {
        return Rehearsing(context, store.path(), say).run(experiment, selection);
      };
      const ChildEnd end =
          in_child(work, [&](const std::string& line) { report.hear(line); }, modules);
      if (end.returned && end.exit_code != 0) return end.exit_code;  // the child has said why
      if (!end.returned) report.crashed(death_text(end));
      options.print(report.table(experiment.name));
      if (options.format() == results::Format::text) report.print_substitutes();
      failed = failed || report.has_failures();
    }
  return static_cast<int>(failed ? ExitCode::run_failed : ExitCode::done);
}

}  // namespace dkdm::cli
