#include "run/plan.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <type_traits>

#include "dkdm/optimizer.hpp"
#include "log/log.hpp"
#include "nn/memory_limit.hpp"
#include "run/evaluation_stages.hpp"
#include "run/limits.hpp"
#include "run/row_costs.hpp"
#include "run/run_record.hpp"
#include "run/runner.hpp"
#include "run/sources.hpp"
#include "run/stage_list.hpp"
#include "run/training_stages.hpp"

namespace dkdm::run {
namespace {

class Planner {
 public:
  Planner(const config::Experiment& experiment, const stages::StageContext& context,
          const record::ArtifactStore& store, CostModel& cost, const PlanExtras& extras)
      : experiment_(experiment), context_(context), sources_(context), store_(store), cost_(cost),
        extras_(extras), costs_(sources_, cost, extras), list_(sources_, store),
        trainings_(context, sources_, costs_, extras, list_),
        evaluations_(context, sources_, costs_, extras, list_) {}

  Plan plan(const Selection& selection) {
    auto limited = experiment_;  // a row that was left out may be one that cannot be constructed
    std::erase_if(limited.rows,
                  [&](const config::Row& row) { return !is_selected(row, selection); });
    check_limits(limited, context_, sources_, cost_, selected_seeds(experiment_, selection).size(),
                 store_.root());
    for (const auto& cell : selected_cells(experiment_, selection)) {
      const auto& row = experiment_.rows[cell.row];
      // The teacher is one network whatever the students' seed; its samples differ all the same.
      if (cell.here) {
        plan_.runs.push_back(planned(row, cell.seed));
        plan_.asked.push_back(plan_.runs.back().record);
      } else {
        plan_.asked.push_back(list_.aside([&] { return planned(row, cell.seed).record; }));
      }
    }
    plan_.stages = list_.take();
    // A teacher from elsewhere that does not fit would show only when it is used, or, where its row
    // is sampled and scored alone, not at all. Nothing is loaded where all is done, or where a plan
    // only gives keys.
    if (extras_.look && !missing_stages(plan_, store_).empty())
      trainings_.check_teachers(experiment_);
    for (const auto& [_, need] : sources_.needs())
      if (!need.rows.empty()) plan_.needs.push_back(need);
    std::sort(plan_.needs.begin(), plan_.needs.end(),
              [](const Need& a, const Need& b) { return a.title() < b.title(); });
    if (!plan_.needs.empty() && !extras_.list_needs) refuse_needs(plan_.needs);
    return std::move(plan_);
  }

 private:
  // Once a row, whatever its seeds and the configurations of a sweep.
  void warn_of_short_average(const config::Row& row) {
    if (!extras_.look || row.sample.text("weights") != "ema") return;
    const auto warn = [&](const std::string& name, const config::Training& training) {
      const std::string warning = train::ema_warning(training.train);
      if (!warning.empty()) log::info_once(name, warning);
    };
    if (row.training) warn("row " + row.id, *row.training);
    else if (trained_teacher(row)) warn("[teacher]", *trained_teacher(row));
  }

  Evaluated network_of(const config::Row& row, std::int64_t seed, StageChain& chain) {
    Evaluated made;
    auto& network = made.network;
    network.weights = row.sample.text("weights");
    if (row.training) {
      const auto stage =
          trainings_.train(row, *row.training, seed, "train " + row.id, chain, snapshots_of(row));
      chain.add("train", stage);
      network.source.folder = list_.output_of(stage).folder;
      network.source.identity = list_.key(stage);
      made.inputs = {stage};
      network.forward_s = costs_.student_s(row, row.training->student);
      network.steps = row.training->train.integer("steps");
    } else {
      network.source = trainings_.teacher(row, chain);
      made.inputs = chain.indices();
      network.forward_s = costs_.teacher_s(row);
      if (trained_teacher(row)) network.steps = trained_teacher(row)->train.integer("steps");
      else network.weights = sources_.teacher(row).weights();
    }
    return made;
  }

  // What the row's configuration is called at every seed: the key that its samples have at seed 0,
  // and how the step that draws them is chosen.
  const std::string& variant_of(const config::Row& row) {
    auto& variant = variants_[row.id];
    if (variant.empty())
      variant = list_.aside([&] {
        StageChain chain;
        constexpr std::int64_t kAnySeed = 0;
        const auto made = network_of(row, kAnySeed, chain);
        const std::string samples =
            list_.key(evaluations_.sample(row, made, sampling_spec(row, kAnySeed)));
        if (!selects(row)) return samples;
        return record::content_key({{"samples", samples},
                                    {"select", row.training->train.text("select")},
                                    {"evaluate", row.evaluate.canonical()}});
      });
    return variant;
  }

  PlannedRun planned(const config::Row& row, std::int64_t seed) {
    PlannedRun run;
    StageChain chain, making;
    warn_of_short_average(row);
    // First of all: images or statistics that cannot be used show before anything is trained.
    const auto evaluator = evaluations_.evaluator(row);
    chain.add("evaluator", evaluator);
    const auto network = network_of(row, seed, making);
    chain.add(making);
    const auto spec = sampling_spec(row, seed);
    run.sample_stage = evaluations_.sample(row, network, spec);
    chain.add("sample", run.sample_stage);
    run.evaluate_stage = evaluations_.evaluate(row, network, spec, run.sample_stage, evaluator);
    chain.add("evaluate", run.evaluate_stage);
    if (!list_[run.sample_stage].streamed) run.outputs.push_back(run.sample_stage);
    run.outputs.push_back(run.evaluate_stage);
    if (row.training && snapshots_of(row).every > 0) {
      const auto snapshots =
          evaluations_.snapshots(row, network, spec, seed, run.evaluate_stage, evaluator);
      chain.add("snapshots", snapshots);
      run.outputs.push_back(snapshots);
      if (selects(row)) {
        run.select_stage =
            evaluations_.select(row, network, spec, run.evaluate_stage, evaluator, snapshots);
        chain.add("select", *run.select_stage);
        run.outputs.push_back(*run.select_stage);
      }
    }
    run.stages = chain.named();
    run.record = record_of(experiment_, row, seed);
    run.record.key = list_.key(run.stages.back().second);
    run.record.parameters = costs_.parameters(row);
    // Which images a rule chooses, its own evaluator decides.
    run.record.samples = list_.key(run.select_stage.value_or(run.sample_stage));
    run.record.variant = variant_of(row);
    add_teacher(row, run);
    return run;
  }

  // Which plugins the run uses, and which teacher, where it uses one.
  void add_teacher(const config::Row& row, PlannedRun& run) {
    run.plugins = {{"evaluator", row.evaluator.name}};
    if (sources_.needs_images(row)) run.plugins.emplace_back("dataset", row.dataset->name);
    const auto add = [&](const plugin::PluginChoice& choice) {
      run.plugins.emplace_back(choice.kind, choice.name);
    };
    if (row.training) {
      add(row.training->student);
      add(row.training->method);
    }
    if (!sources_.uses_teacher(row)) return;
    const auto& teacher = row.teacher.value().plugin;
    run.record.teacher = teacher.name;
    add(teacher);
    if (const auto& training = trained_teacher(row)) {
      add(training->student);
      add(training->method);
    }
    const auto source = list_.aside([&] {
      StageChain chain;
      return trainings_.teacher(row, chain);
    });
    run.record.teacher_key = source.folder.empty() ? sources_.teacher(row).fingerprint()
                                                   : source.folder.filename().string();
  }

  const config::Experiment& experiment_;
  const stages::StageContext& context_;
  Sources sources_;
  const record::ArtifactStore& store_;
  CostModel& cost_;
  const PlanExtras extras_;
  RowCosts costs_;
  StageList list_;
  TrainingStages trainings_;
  EvaluationStages evaluations_;
  std::map<std::string, std::string> variants_;  // by row
  Plan plan_;
};

}  // namespace

bool is_own_stage(const std::string& name) {
  static const std::set<std::string> kOwn{"train", "sample", "evaluate", "snapshots", "select"};
  return kOwn.contains(name);
}

Plan make_plan(const config::Experiment& experiment, const Selection& selection,
               const stages::StageContext& context, const record::ArtifactStore& store,
               CostModel& cost, const PlanExtras& extras) {
  std::optional<nn::AnyMachine> any;
  if (extras.any_machine) any.emplace();
  return Planner(experiment, context, store, cost, extras).plan(selection);
}

}  // namespace dkdm::run
