#include "run/plan.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <type_traits>

#include "dkdm/optimizer.hpp"
#include "log/log.hpp"
#include "method/teacher_fit.hpp"
#include "nn/memory_limit.hpp"
#include "run/limits.hpp"
#include "run/row_costs.hpp"
#include "run/run_record.hpp"
#include "run/runner.hpp"
#include "run/sources.hpp"
#include "run/teacher_files.hpp"
#include "stages/determinants.hpp"
#include "stages/method_inputs.hpp"
#include "stages/stages.hpp"

namespace dkdm::run {
namespace {

using stages::Stage;

class Planner {
 public:
  Planner(const config::Experiment& experiment, const stages::StageContext& context,
          const record::ArtifactStore& store, CostModel& cost, const PlanExtras& extras)
      : experiment_(experiment), context_(context), sources_(context), store_(store), cost_(cost),
        extras_(extras), costs_(sources_, cost, extras) {}

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
        add_run(row, cell.seed);
        plan_.asked.push_back(plan_.runs.back().record);
      } else {
        plan_.asked.push_back(aside([&] {
          add_run(row, cell.seed);
          return plan_.runs.back().record;
        }));
      }
    }
    check_teachers();
    for (const auto& [_, need] : sources_.needs())
      if (!need.rows.empty()) plan_.needs.push_back(need);
    std::sort(plan_.needs.begin(), plan_.needs.end(),
              [](const Need& a, const Need& b) { return a.title() < b.title(); });
    if (!plan_.needs.empty() && !extras_.list_needs) refuse_needs(plan_.needs);
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

  ExternalTeacher& external_teacher(const config::Row& row) { return sources_.teacher(row); }

  static const config::Teacher& teacher_of(const config::Row& row) { return row.teacher.value(); }
  static const std::optional<config::Training>& trained_teacher(const config::Row& row) {
    return teacher_of(row).training;
  }

  // A teacher from elsewhere that does not fit would show only when it is used, or, where its row
  // is sampled and scored alone, not at all. Nothing is loaded where all is done, or where a plan
  // only gives keys.
  void check_teachers() {
    if (!extras_.look || missing_stages(plan_, store_).empty()) return;
    for (const auto& [row, teaches] : external_uses_) {
      const auto known = external_teacher(*row).made_for();
      if (!known) continue;
      const TrainedModel model{nullptr, known->diffusion, known->shape};
      const ImageSpec spec = sources_.spec(*row);
      for (const std::string& misfit :
           {spec.values() > 0 ? image_misfit(model, spec) : std::string(),
            teaches ? process_misfit(model, row->diffusion) : std::string()})
        if (!misfit.empty()) throw ConfigError(place_of_teacher(experiment_, *row), misfit);
    }
  }

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

  static void take_memory(const stages::Footprint& from, stages::Footprint& to) {
    to.parts = from.parts;
    to.remedy = from.remedy;
  }

  // The stage with these parts; an equal one is shared.
  std::size_t add_stage(Stage stage, std::vector<std::size_t> inputs) {
    stage.key = record::content_key(stage.parts);
    stage.needs = needs_of(stage.parts);
    if (!stage.needs.empty()) {
      stage.key = "unknown-" + stage.key;
      unknown_keys_[stage.key] = stage.needs;
    }
    stage.inputs = std::move(inputs);
    for (std::size_t i = 0; i < plan_.stages.size(); ++i)
      if (plan_.stages[i].kind == stage.kind && plan_.stages[i].key == stage.key) {
        plan_.stages[i].streamed = plan_.stages[i].streamed && stage.streamed;
        if (stage.footprint.memory() > plan_.stages[i].footprint.memory())
          take_memory(stage.footprint, plan_.stages[i].footprint);  // of the largest batch
        return i;
      }
    plan_.stages.push_back(std::move(stage));
    return plan_.stages.size() - 1;
  }

  // What is absent of all that `parts` are made of: a key is unknown where any part of it is.
  std::vector<std::string> needs_of(const record::KeyParts& parts) const {
    std::set<std::string> titles;
    for (const auto& [_, text] : parts) {
      for (const auto& [stand_in, need] : sources_.needs())
        if (text.find(stand_in) != std::string::npos) titles.insert(need.title());
      for (const auto& [key, needs] : unknown_keys_)
        if (text.find(key) != std::string::npos) titles.insert(needs.begin(), needs.end());
    }
    return {titles.begin(), titles.end()};
  }

  // Says in the parts of `stage` that something of it, which another text states as 0, is known to
  // absent files alone.
  static void add_unknown(Stage& stage, const char* what, const std::string& stand_in) {
    if (!stand_in.empty()) stage.parts.emplace_back(what, stand_in);
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

  void require_teacher(const config::Row& row, const std::string& who) const {
    if (row.teacher) return;
    throw ConfigError(row.where,
                      "row \"" + row.id + "\": " + who +
                          " needs a teacher and the row has none; expected "
                          "a [teacher], or teacher = \"NAME\" where [teacher.NAME] are several");
  }

  // The teacher: trained here (a stage of the chain) or found by its plugin. `teaches`: a student
  // learns its steps.
  stages::NetworkSource teacher(const config::Row& row, Chain& chain, bool teaches = false) {
    const auto& choice = teacher_of(row).plugin;
    stages::NetworkSource source{choice, {}, stages::describe(choice) + "\n"};
    if (trained_teacher(row)) {
      const auto& method = trained_teacher(row)->method;
      if (const Needs needs = sources_.needs(*trained_teacher(row));
          needs.teacher || needs.synthetic)
        throw ConfigError(
            row.where,
            "row \"" + row.id + "\": its teacher is trained by " + method.name +
                ", which needs a teacher itself; expected a method that learns from images");
      constexpr std::int64_t kTeacherSeed = 0;  // one teacher for the students of every seed
      const auto& name = teacher_of(row).name;
      const auto stage = train_stage(row, *trained_teacher(row), kTeacherSeed,
                                     "train the teacher" + (name.empty() ? "" : " " + name), chain);
      add_to(chain, "teacher", stage);
      source.folder = output_of(stage).folder;
      source.identity += key(stage);
    } else {
      external_uses_.emplace_back(&row, teaches);
      source.identity += external_teacher(row).fingerprint();
    }
    return source;
  }

  std::size_t synthetic_stage(const config::Row& row, Chain& chain) {
    const auto source = teacher(row, chain);
    const auto stated = row.synthetic.integer("count");
    const auto spec =
        stages::sampling_spec(row.synthetic, stated > 0 ? stated : sources_.image_count(row),
                              record::derive_seed(0, "synthetic"));
    auto stage = stages::synthetic_stage(source, row.diffusion, spec, {0, costs_.teacher_s(row)});
    if (stated == 0) add_unknown(stage, "images", sources_.unknown_count(row));
    if (spec.count == 0) stage.estimated_s = kUnknownCost;
    if (extras_.footprints) {
      stage.footprint =
          sampling_footprint(costs_.teacher_bytes(row, row.synthetic.text("precision")),
                             sources_.spec(row), spec, true);
      stage.footprint.remedy = drawing_remedy("synthetic", row.synthetic);
    }
    return add_stage(std::move(stage), indices(chain));
  }

  // The dataset that a training of the row learns to draw, "" where a file's network says none.
  std::string learned_images(const config::Row& row, const Needs& needs) {
    const bool learns_from_teacher = row.teacher && (needs.teacher || needs.synthetic);
    if (needs.dataset || (learns_from_teacher && trained_teacher(row)))
      return row.dataset ? row.dataset->name : "";
    if (!learns_from_teacher) return "";
    return images_of(external_teacher(row), teacher_of(row).plugin);
  }

  std::size_t train_stage(const config::Row& row, const config::Training& training,
                          std::int64_t seed, const std::string& label, Chain& chain,
                          const train::SnapshotPolicy& snapshots = {}) {
    const auto method = context_.registry.method(training.method, context_.host);
    const Needs needs = method->needs();
    const stages::TrainingJob job{training, row.diffusion, sources_.spec(row),
                                  seed,     snapshots,     learned_images(row, needs)};
    stages::TrainingInputs inputs;
    Chain before;
    if (needs.dataset) {
      const auto& images = sources_.images(row);
      inputs.dataset = {images.dataset, images.fingerprint};
    }
    if (needs.teacher || needs.synthetic) require_teacher(row, training.method.name);
    if (needs.teacher) inputs.teacher = teacher(row, before, /*teaches=*/true);
    if (needs.synthetic) {
      const auto stage = synthetic_stage(row, before);
      add_to(before, "synthetic", stage);
      inputs.synthetic = output_of(stage);
    }
    const stages::ImageCosts costs{costs_.training_s(row, training.student),
                                   needs.teacher ? costs_.teacher_s(row) : 0};
    const NetworkBytes taught =
        needs.teacher ? costs_.teacher_bytes(row, config::teacher_precision(training.train))
                      : NetworkBytes{};
    const auto batch = training.train.integer("batch");
    const double held =
        extras_.footprints ? method->held_bytes(row.diffusion, job.shape, batch) : 0;
    if (needs.preparation) {
      auto prepared = stages::pool_stage(job, inputs, *method, costs);
      add_unknown(prepared, "image size", sources_.unknown_spec(row));
      if (extras_.footprints) {
        prepared.footprint =
            preparation_footprint(taught, held, job.shape, rows_together(training));
        // It is prepared in the machine's memory, some rows at a time on the device.
        if (!context_.host.device().is_cpu()) prepared.footprint.parts.batch_set = 0;
        prepared.footprint.remedy = preparation_remedy(training);
      }
      const auto stage = add_stage(std::move(prepared), indices(before));
      add_to(before, "pool", stage);
      inputs.pool = output_of(stage);
    }
    for (const auto& [name, index] : before) add_to(chain, name, index);
    auto trained = stages::train_stage(label, job, inputs, *method, costs);
    add_unknown(trained, "image size", sources_.unknown_spec(row));
    if (extras_.footprints) {
      const auto every = snapshots.every;
      const auto kept = every > 0 ? (training.train.integer("steps") - 1) / every : 0;
      const auto student = costs_.student_bytes(row, training.student, Pass::training,
                                                training.train.text("precision"));
      trained.footprint = training_footprint(student, taught, held, job.shape, batch, kept,
                                             job.training.train.flag("graphs"));
      if (stages::keeps_on_host(training.train, held, context_.host.device()))
        trained.footprint.parts.batch_set = 0;
      trained.footprint.remedy = training_remedy(training);
    }
    return add_stage(std::move(trained), indices(before));
  }

  // Of the parameters that every distillation method with a preparation has
  // (dkdm/distillation.hpp): rows that go through the teacher together.
  static std::int64_t rows_together(const config::Training& training) {
    const auto& method = training.method.params.values();
    const auto stated = method.find("teacher_batch");
    const auto* rows =
        stated == method.end() ? nullptr : std::get_if<std::int64_t>(&stated->second);
    return rows && *rows > 0 ? *rows : training.train.integer("batch");
  }

  // The same for every run with this evaluator and these images.
  struct Evaluating {
    std::string identity;
    std::optional<Stage> stage;
  };

  Evaluating& evaluating(const config::Row& row) {
    const auto& reference = sources_.reference(row);
    const auto& identity = sources_.evaluator_identity(row);
    auto& made =
        evaluators_[{row.evaluator.name + '\n' + row.evaluator.params.canonical(), &reference}];
    if (!made.stage) {
      made.identity = identity;
      made.stage = stages::evaluator_stage(row.evaluator, made.identity, reference);
    }
    return made;
  }

  std::size_t evaluator_stage(const config::Row& row) {
    return add_stage(*evaluating(row).stage, {});
  }

  stages::EvaluatorInput evaluator_input(const config::Row& row, std::size_t evaluator) {
    return {row.evaluator, evaluating(row).identity.empty() ? "" : row.evaluator.params.canonical(),
            output_of(evaluator)};
  }

  // What a row's training keeps to be evaluated afterwards.
  train::SnapshotPolicy snapshots_of(const config::Row& row) const {
    const auto every = row.evaluate.integer("every");
    if (every >= row.training->train.integer("steps"))
      return {};  // the last step is always evaluated
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
      const auto stage =
          train_stage(row, *row.training, seed, "train " + row.id, chain, snapshots_of(row));
      add_to(chain, "train", stage);
      network.source.folder = output_of(stage).folder;
      network.source.identity = key(stage);
      made.inputs = {stage};
      network.forward_s = costs_.student_s(row, row.training->student);
      network.steps = row.training->train.integer("steps");
    } else {
      network.source = teacher(row, chain);
      made.inputs = indices(chain);
      network.forward_s = costs_.teacher_s(row);
      if (trained_teacher(row)) network.steps = trained_teacher(row)->train.integer("steps");
      else network.weights = external_teacher(row).weights();
    }
    return made;
  }

  stages::SamplingSpec spec_of(const config::Row& row, std::int64_t seed) const {
    return stages::sampling_spec(row.sample, row.sample.integer("count"),
                                 record::derive_seed(seed, "sample"));
  }

  // What the row's configuration is called at every seed: the key that its samples have at seed 0,
  // and how the step that draws them is chosen.
  const std::string& variant_of(const config::Row& row) {
    auto& variant = variants_[row.id];
    if (variant.empty())
      variant = aside([&] {
        Chain chain;
        constexpr std::int64_t kAnySeed = 0;
        const auto& samples =
            key(sample_stage(row, network_of(row, kAnySeed, chain), spec_of(row, kAnySeed)));
        if (!selects(row)) return samples;
        return record::content_key({{"samples", samples},
                                    {"select", row.training->train.text("select")},
                                    {"evaluate", row.evaluate.canonical()}});
      });
    return variant;
  }

  static bool selects(const config::Row& row) {
    return row.training && !config::selecting_metric(row.training->train).empty();
  }

  std::size_t sample_stage(const config::Row& row, const Evaluated& made,
                           const stages::SamplingSpec& spec) {
    Stage stage = stages::sample_stage(row.id, made.network, row.diffusion, spec);
    stage.streamed = !row.sample.flag("save");
    if (extras_.footprints) {
      stage.footprint = sampling_footprint(costs_.evaluated_bytes(row), sources_.spec(row), spec,
                                           !stage.streamed);
      stage.footprint.remedy = drawing_remedy("sample", row.sample);
    }
    return add_stage(std::move(stage), made.inputs);
  }

  std::size_t evaluate_stage(const config::Row& row, const Evaluated& made,
                             const stages::SamplingSpec& spec, std::size_t samples,
                             std::size_t evaluator) {
    const Stage& sample = plan_.stages[samples];
    auto inputs = sample.streamed && !sample.find(store_) ? made.inputs : std::vector{samples};
    inputs.push_back(evaluator);
    auto stage = stages::evaluate_stage(row.id, made.network, spec, sample,
                                        evaluator_input(row, evaluator), store_);
    if (sample.streamed) stage.footprint = sample.footprint;
    return add_stage(std::move(stage), std::move(inputs));
  }

  // The evaluations on the way, where the training keeps weights for them. The evaluation at the
  // end is one of them, made again only where it had another number of images.
  std::size_t snapshots_stage(const config::Row& row, const Evaluated& made,
                              stages::SamplingSpec spec, std::int64_t seed, std::size_t evaluate,
                              std::size_t evaluator) {
    const auto every = row.evaluate.integer("every");
    std::vector<std::int64_t> steps;
    for (auto step = every; step < made.network.steps; step += every) steps.push_back(step);
    if (!same_images(row)) steps.push_back(made.network.steps);
    if (const auto count = row.evaluate.integer("count"); count > 0) spec.count = count;
    const bool other = draws_other_images(row);
    if (other) spec.seed = record::derive_seed(seed, "evaluate");
    auto inputs = made.inputs;
    inputs.push_back(evaluator);
    auto stage = stages::snapshots_stage(row.id, made.network, row.diffusion, spec, steps,
                                         key(evaluate), evaluator_input(row, evaluator), other);
    take_memory(plan_.stages[evaluate].footprint, stage.footprint);
    return add_stage(std::move(stage), std::move(inputs));
  }

  static bool draws_other_images(const config::Row& row) {
    return row.evaluate.text("samples") == "other";
  }
  // Whether the evaluations on the way are of the images that are drawn at the end.
  static bool same_images(const config::Row& row) {
    const auto count = row.evaluate.integer("count");
    return !draws_other_images(row) && (count == 0 || count == row.sample.integer("count"));
  }

  // Before anything is trained, where the evaluator says what it gives.
  void require_metric(const config::Row& row) {
    const std::string metric = config::selecting_metric(row.training->train);
    const auto given = context_.registry.evaluator(row.evaluator, context_.host)->metrics();
    if (given.empty() || std::find(given.begin(), given.end(), metric) != given.end()) return;
    std::string names;
    for (const auto& name : given) names += (names.empty() ? "" : ", ") + name;
    throw ConfigError(row.where, "row \"" + row.id + "\": train.select = \"best:" + metric +
                                     "\": the evaluator " + row.evaluator.name + " gives " + names);
  }

  std::size_t select_stage(const config::Row& row, const Evaluated& made,
                           const stages::SamplingSpec& spec, std::size_t evaluate,
                           std::size_t evaluator, std::size_t snapshots) {
    require_metric(row);
    const stages::Selecting selecting{
        config::selecting_metric(row.training->train),
        made.network.source.folder,
        output_of(snapshots).folder,
        output_of(evaluate).folder,
        spec,
        {row.evaluator, output_of(evaluator).folder, made.network.weights, made.network.steps},
        same_images(row),
        row.sample.flag("save")};
    auto inputs = made.inputs;
    inputs.insert(inputs.end(), {evaluator, evaluate, snapshots});
    auto stage = stages::select_stage(row.id, made.network, row.diffusion, selecting,
                                      key(snapshots), key(evaluate));
    take_memory(plan_.stages[evaluate].footprint, stage.footprint);
    return add_stage(std::move(stage), std::move(inputs));
  }

  void add_run(const config::Row& row, std::int64_t seed) {
    PlannedRun run;
    Chain& chain = run.stages;
    warn_of_short_average(row);
    // First of all: images or statistics that cannot be used show before anything is trained.
    const auto evaluator = evaluator_stage(row);
    add_to(chain, "evaluator", evaluator);
    Chain making;
    const auto network = network_of(row, seed, making);
    for (const auto& [name, stage] : making) add_to(chain, name, stage);
    const auto spec = spec_of(row, seed);
    run.sample_stage = sample_stage(row, network, spec);
    add_to(chain, "sample", run.sample_stage);
    run.evaluate_stage = evaluate_stage(row, network, spec, run.sample_stage, evaluator);
    add_to(chain, "evaluate", run.evaluate_stage);
    if (!plan_.stages[run.sample_stage].streamed) run.outputs.push_back(run.sample_stage);
    run.outputs.push_back(run.evaluate_stage);
    if (row.training && snapshots_of(row).every > 0) {
      const auto snapshots =
          snapshots_stage(row, network, spec, seed, run.evaluate_stage, evaluator);
      add_to(chain, "snapshots", snapshots);
      run.outputs.push_back(snapshots);
      if (selects(row)) {
        run.select_stage =
            select_stage(row, network, spec, run.evaluate_stage, evaluator, snapshots);
        add_to(chain, "select", *run.select_stage);
        run.outputs.push_back(*run.select_stage);
      }
    }
    run.record = record_of(experiment_, row, seed);
    run.record.key = key(chain.back().second);
    run.record.parameters = costs_.parameters(row);
    // Which images a rule chooses, its own evaluator decides.
    run.record.samples = key(run.select_stage.value_or(run.sample_stage));
    run.record.variant = variant_of(row);
    add_teacher(row, run);
    plan_.runs.push_back(std::move(run));
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
    run.record.teacher = teacher_of(row).plugin.name;
    add(teacher_of(row).plugin);
    if (const auto& training = trained_teacher(row)) {
      add(training->student);
      add(training->method);
    }
    Chain chain;
    const auto source = aside([&] { return teacher(row, chain); });
    run.record.teacher_key = source.folder.empty() ? external_teacher(row).fingerprint()
                                                   : source.folder.filename().string();
  }

  const config::Experiment& experiment_;
  const stages::StageContext& context_;
  Sources sources_;
  const record::ArtifactStore& store_;
  CostModel& cost_;
  const PlanExtras extras_;
  RowCosts costs_;
  std::map<std::string, std::string> variants_;                   // by row
  std::map<std::string, std::vector<std::string>> unknown_keys_;  // and what is absent
  std::vector<std::pair<const config::Row*, bool>>
      external_uses_;  // rows, and whether a student learns its steps
  // By the evaluator and its reference.
  std::map<std::pair<std::string, const stages::Reference*>, Evaluating> evaluators_;
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
