#include "run/plan.hpp"

#include <algorithm>
#include <boost/algorithm/string/join.hpp>
#include <map>
#include <optional>
#include <type_traits>

#include "dkdm/nearest.hpp"
#include "dkdm/optimizer.hpp"
#include "log/log.hpp"
#include "method/teacher_fit.hpp"
#include "run/external_teacher.hpp"
#include "run/limits.hpp"
#include "run/run_record.hpp"
#include "run/runner.hpp"
#include "stages/determinants.hpp"
#include "stages/reference.hpp"
#include "stages/stages.hpp"

namespace dkdm::run {
namespace {

using stages::Stage;

class Planner {
 public:
  Planner(const config::Experiment& experiment, const stages::StageContext& context,
          const record::ArtifactStore& store, CostModel& cost, const PlanExtras& extras)
      : experiment_(experiment), context_(context), store_(store), cost_(cost), extras_(extras),
        spec_(context.dataset->spec()), dataset_(context.dataset->fingerprint()),
        teacher_(experiment.teacher, context) {}

  Plan plan(const Selection& selection) {
    const auto seeds = selection.seeds.empty() ? experiment_.seeds : selection.seeds;
    for (const auto& id : selection.rows)
      if (std::none_of(experiment_.rows.begin(), experiment_.rows.end(),
                       [&](const auto& row) { return row.id == id; }))
        unknown_row(id);
    const auto chosen = [&](const config::Row& row) {
      const auto& rows = selection.rows;
      return rows.empty() || std::find(rows.begin(), rows.end(), row.id) != rows.end();
    };
    auto limited = experiment_;  // a row that was left out may be one that cannot be constructed
    std::erase_if(limited.rows, [&](const config::Row& row) { return !chosen(row); });
    check_limits(limited, context_, cost_, seeds.size());
    std::int64_t number = 0;
    for (const auto seed : seeds) {
      for (const auto& row : experiment_.rows) {
        if (!chosen(row)) continue;
        // The teacher is one network whatever the students' seed; its samples differ all the same.
        if (number++ % selection.shards == selection.shard - 1) {
          add_run(row, seed);
          plan_.asked.push_back(plan_.runs.back().record);
        } else {
          plan_.asked.push_back(aside([&] {
            add_run(row, seed);
            return plan_.runs.back().record;
          }));
        }
      }
    }
    check_teacher();
    return std::move(plan_);
  }

 private:
  using Chain = std::vector<std::pair<std::string, std::size_t>>;

  // What `look` returns of a plan of its own, which is then forgotten.
  template <class Look>
  std::invoke_result_t<const Look&> aside(const Look& look) {
    Plan kept;
    std::swap(plan_, kept);
    auto seen = look();
    std::swap(plan_, kept);
    return seen;
  }

  // A teacher from elsewhere that does not fit would show only when it is used, or, where its row is sampled
  // and scored alone, not at all. Nothing is loaded where all is done, or where a plan only gives keys.
  void check_teacher() {
    if (!extras_.look || !used_external_ || missing_stages(plan_, store_).empty()) return;
    const auto& model = teacher_.model();
    for (const std::string& misfit :
         {image_misfit(model, spec_),
          teaches_ ? process_misfit(model, experiment_.diffusion) : std::string()})
      if (!misfit.empty())
        throw ConfigError(experiment_.file.string() + ": [teacher] (" + experiment_.teacher.name + ")",
                          misfit);
  }

  // Once a row, whatever its seeds and the configurations of a sweep.
  void warn_of_short_average(const config::Row& row) {
    if (!extras_.look || row.sample.text("weights") != "ema") return;
    const auto warn = [&](const std::string& name, const config::Training& training) {
      const std::string warning = train::ema_warning(training.train);
      if (!warning.empty()) log::info_once(name, warning);
    };
    if (row.training) warn("row " + row.id, *row.training);
    else if (experiment_.teacher_training) warn("[teacher]", *experiment_.teacher_training);
  }

  [[noreturn]] void unknown_row(const std::string& id) const {
    std::vector<std::string> ids;
    for (const auto& row : experiment_.rows) ids.push_back(row.id);
    const auto near = nearest_name(id, ids);
    throw ConfigError("--rows", "no row \"" + id + "\"" +
                                    (near.empty() ? "" : " (did you mean \"" + near + "\"?)") +
                                    "; " + experiment_.file.string() + " has " + boost::algorithm::join(ids, ", "));
  }

  // The stage with these parts; an equal one is shared.
  std::size_t add_stage(Stage stage, std::vector<std::size_t> inputs) {
    stage.key = record::content_key(stage.parts);
    stage.inputs = std::move(inputs);
    for (std::size_t i = 0; i < plan_.stages.size(); ++i)
      if (plan_.stages[i].kind == stage.kind && plan_.stages[i].key == stage.key) {
        plan_.stages[i].streamed = plan_.stages[i].streamed && stage.streamed;
        return i;
      }
    plan_.stages.push_back(std::move(stage));
    return plan_.stages.size() - 1;
  }

  stages::StageInput output_of(std::size_t stage) const {
    return {plan_.stages[stage].folder(store_), plan_.stages[stage].key};
  }
  const std::string& key(std::size_t stage) const { return plan_.stages[stage].key; }

  static void add_to(Chain& chain, const std::string& name, std::size_t stage) {
    for (const auto& [_, present] : chain)
      if (present == stage) return;
    chain.emplace_back(name, stage);
  }

  static std::vector<std::size_t> indices(const Chain& chain) {
    std::vector<std::size_t> result;
    for (const auto& [_, stage] : chain) result.push_back(stage);
    return result;
  }

  stages::ForwardCosts costs(const plugin::PluginChoice* student) {
    if (!extras_.estimate) return {};
    const auto seconds = [&](const plugin::PluginChoice& network) {
      return cost_.forward_s(network, {spec_, experiment_.diffusion});
    };
    return {student ? seconds(*student) : 0,
            trained_teacher() ? seconds(trained_teacher()->student)
            : used_external_  ? teacher_.forward_s()
                              : 0};
  }

  const std::optional<config::Training>& trained_teacher() const { return experiment_.teacher_training; }

  // The teacher: trained here (a stage of the chain) or found by its plugin.
  stages::NetworkSource teacher(Chain& chain) {
    stages::NetworkSource source{experiment_.teacher, {}, stages::describe(experiment_.teacher) + "\n"};
    if (trained_teacher()) {
      constexpr std::int64_t kTeacherSeed = 0;  // one teacher for the students of every seed
      const auto stage = train_stage(*trained_teacher(), kTeacherSeed, "train the teacher", chain);
      add_to(chain, "teacher", stage);
      source.folder = output_of(stage).folder;
      source.identity += key(stage);
    } else {
      used_external_ = true;
      source.identity += teacher_.fingerprint();
    }
    return source;
  }

  std::size_t synthetic_stage(Chain& chain) {
    const auto source = teacher(chain);
    const auto stated = experiment_.synthetic.integer("count");
    const auto spec = stages::sampling_spec(experiment_.synthetic,
                                            stated > 0 ? stated : context_.dataset->size(),
                                            record::derive_seed(0, "synthetic"));
    return add_stage(stages::synthetic_stage(source, experiment_.diffusion, spec, costs(nullptr)),
                     indices(chain));
  }

  std::size_t train_stage(const config::Training& training, std::int64_t seed,
                          const std::string& label, Chain& chain,
                          const train::SnapshotPolicy& snapshots = {}) {
    const auto method = context_.registry.method(training.method, context_.host);
    const Needs needs = method->needs();
    const stages::TrainingJob job{training, experiment_.diffusion, spec_, seed, snapshots};
    stages::TrainingInputs inputs;
    Chain before;
    if (needs.dataset) inputs.dataset = dataset_;
    if (needs.teacher) {
      teaches_ = true;
      inputs.teacher = teacher(before);
    }
    if (needs.synthetic) {
      const auto stage = synthetic_stage(before);
      add_to(before, "synthetic", stage);
      inputs.synthetic = output_of(stage);
    }
    const auto forward = costs(&training.student);
    if (needs.preparation) {
      const auto stage = add_stage(stages::pool_stage(job, inputs, *method, forward), indices(before));
      add_to(before, "pool", stage);
      inputs.pool = output_of(stage);
    }
    for (const auto& [name, index] : before) add_to(chain, name, index);
    return add_stage(stages::train_stage(label, job, inputs, *method, forward), indices(before));
  }

  std::size_t evaluator_stage() {
    if (!evaluator_) {
      evaluator_identity_ =
          context_.registry.evaluator(experiment_.evaluator, context_.host)->identity();
      evaluator_ = stages::evaluator_stage(
          experiment_.evaluator, evaluator_identity_,
          {stages::recipe_of(experiment_.dataset), context_.dataset, std::nullopt});
    }
    return add_stage(*evaluator_, {});
  }

  stages::EvaluatorInput evaluator_input(std::size_t evaluator) const {
    return {experiment_.evaluator,
            evaluator_identity_.empty() ? "" : experiment_.evaluator.params.canonical(),
            output_of(evaluator)};
  }

  // What a row's training keeps to be evaluated afterwards.
  train::SnapshotPolicy snapshots_of(const config::Row& row) const {
    const auto every = experiment_.evaluate.integer("every");
    if (every >= row.training->train.integer("steps")) return {};  // the last step is always evaluated
    return {every, row.sample.text("weights"), {}};
  }

  // The network that a row evaluates, and the stages that make it.
  struct Evaluated {
    stages::EvaluatedNetwork network;
    std::vector<std::size_t> inputs;
  };

  Evaluated network_of(const config::Row& row, std::int64_t seed, Chain& chain) {
    Evaluated made;
    auto& network = made.network;
    network.weights = row.sample.text("weights");
    if (row.training) {
      const auto stage = train_stage(*row.training, seed, "train " + row.id, chain, snapshots_of(row));
      add_to(chain, "train", stage);
      network.source.folder = output_of(stage).folder;
      network.source.identity = key(stage);
      made.inputs = {stage};
      network.forward_s = costs(&row.training->student).student_s;
      network.steps = row.training->train.integer("steps");
    } else {
      network.source = teacher(chain);
      made.inputs = indices(chain);
      network.forward_s = costs(nullptr).teacher_s;
      if (trained_teacher()) network.steps = trained_teacher()->train.integer("steps");
      else network.weights = teacher_.weights();
    }
    return made;
  }

  stages::SamplingSpec spec_of(const config::Row& row, std::int64_t seed) const {
    return stages::sampling_spec(row.sample, row.sample.integer("count"),
                                 record::derive_seed(seed, "sample"));
  }

  // What the row's configuration is called at every seed: the key that its samples have at seed 0.
  const std::string& variant_of(const config::Row& row) {
    auto& variant = variants_[row.id];
    if (variant.empty())
      variant = aside([&] {
        Chain chain;
        constexpr std::int64_t kAnySeed = 0;
        return key(sample_stage(row, network_of(row, kAnySeed, chain), spec_of(row, kAnySeed)));
      });
    return variant;
  }

  std::size_t sample_stage(const config::Row& row, const Evaluated& made,
                           const stages::SamplingSpec& spec) {
    Stage stage = stages::sample_stage(row.id, made.network, experiment_.diffusion, spec);
    stage.streamed = !row.sample.flag("save");
    return add_stage(std::move(stage), made.inputs);
  }

  std::size_t evaluate_stage(const config::Row& row, const Evaluated& made,
                             const stages::SamplingSpec& spec, std::size_t samples,
                             std::size_t evaluator) {
    const Stage& sample = plan_.stages[samples];
    auto inputs = sample.streamed && !sample.find(store_) ? made.inputs : std::vector{samples};
    inputs.push_back(evaluator);
    return add_stage(stages::evaluate_stage(row.id, made.network, spec, sample,
                                            evaluator_input(evaluator), store_),
                     std::move(inputs));
  }

  // The evaluations on the way, where the training keeps weights for them. The evaluation at the end is
  // one of them, made again only where it had another number of images.
  std::size_t snapshots_stage(const config::Row& row, const Evaluated& made, stages::SamplingSpec spec,
                           std::size_t evaluate, std::size_t evaluator) {
    const auto every = experiment_.evaluate.integer("every");
    const auto count = experiment_.evaluate.integer("count");
    std::vector<std::int64_t> steps;
    for (auto step = every; step < made.network.steps; step += every) steps.push_back(step);
    if (count > 0 && count != spec.count) {
      spec.count = count;
      steps.push_back(made.network.steps);
    }
    auto inputs = made.inputs;
    inputs.push_back(evaluator);
    return add_stage(stages::snapshots_stage(row.id, made.network, experiment_.diffusion, spec, steps,
                                          key(evaluate), evaluator_input(evaluator)),
                     std::move(inputs));
  }

  void add_run(const config::Row& row, std::int64_t seed) {
    PlannedRun run;
    Chain& chain = run.stages;
    warn_of_short_average(row);
    const auto network = network_of(row, seed, chain);
    const auto spec = spec_of(row, seed);
    run.sample_stage = sample_stage(row, network, spec);
    add_to(chain, "sample", run.sample_stage);
    const auto evaluator = evaluator_stage();
    add_to(chain, "evaluator", evaluator);
    run.evaluate_stage = evaluate_stage(row, network, spec, run.sample_stage, evaluator);
    add_to(chain, "evaluate", run.evaluate_stage);
    if (!plan_.stages[run.sample_stage].streamed) run.outputs.push_back(run.sample_stage);
    run.outputs.push_back(run.evaluate_stage);
    if (row.training && snapshots_of(row).every > 0) {
      const auto snapshots = snapshots_stage(row, network, spec, run.evaluate_stage, evaluator);
      add_to(chain, "snapshots", snapshots);
      run.outputs.push_back(snapshots);
    }
    run.record = record_of(experiment_, row, seed);
    run.record.key = key(chain.back().second);
    run.record.parameters = parameters(row);
    run.record.samples = key(run.sample_stage);
    run.record.variant = variant_of(row);
    add_teacher(row, run);
    plan_.runs.push_back(std::move(run));
  }

  // Of the network that the row evaluates; 0 where that is a teacher from elsewhere and nothing is made: its
  // record has the number already.
  std::int64_t parameters(const config::Row& row) {
    const auto& training = row.training ? row.training : trained_teacher();
    if (training) return cost_.parameters(training->student, {spec_, experiment_.diffusion});
    return extras_.estimate ? teacher_.parameters() : 0;
  }

  bool uses_teacher(const config::Row& row) const {
    if (!row.training) return true;
    const Needs needs = context_.registry.method(row.training->method, context_.host)->needs();
    return needs.teacher || needs.synthetic;
  }

  // Which plugins the run uses, and which teacher, where it uses one.
  void add_teacher(const config::Row& row, PlannedRun& run) {
    run.plugins = {{"dataset", experiment_.dataset.name}, {"evaluator", experiment_.evaluator.name}};
    const auto add = [&](const plugin::PluginChoice& choice) {
      run.plugins.emplace_back(choice.kind, choice.name);
    };
    if (row.training) {
      add(row.training->student);
      add(row.training->method);
    }
    if (!uses_teacher(row)) return;
    run.record.teacher = experiment_.teacher.name;
    add(experiment_.teacher);
    if (const auto& training = experiment_.teacher_training) {
      add(training->student);
      add(training->method);
    }
    Chain chain;
    const auto source = aside([&] { return teacher(chain); });
    run.record.teacher_key =
        source.folder.empty() ? teacher_.fingerprint() : source.folder.filename().string();
  }

  const config::Experiment& experiment_;
  const stages::StageContext& context_;
  const record::ArtifactStore& store_;
  CostModel& cost_;
  const PlanExtras extras_;
  const ImageSpec spec_;
  const std::string dataset_;
  std::map<std::string, std::string> variants_;  // by row
  ExternalTeacher teacher_;  // asked where experiment_.teacher_training is absent
  std::optional<Stage> evaluator_;  // the same for every run
  std::string evaluator_identity_;
  bool used_external_ = false, teaches_ = false;
  Plan plan_;
};

}  // namespace

Plan make_plan(const config::Experiment& experiment, const Selection& selection,
               const stages::StageContext& context, const record::ArtifactStore& store,
               CostModel& cost, const PlanExtras& extras) {
  return Planner(experiment, context, store, cost, extras).plan(selection);
}

}  // namespace dkdm::run
