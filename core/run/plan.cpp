#include "run/plan.hpp"

#include <algorithm>
#include <map>
#include <set>

#include "dkdm/nearest.hpp"
#include "dkdm/optimizer.hpp"
#include "dkdm/weights_kind.hpp"
#include "log/log.hpp"
#include "method/teacher_fit.hpp"
#include "run/determinants.hpp"
#include "run/evaluation.hpp"
#include "run/limits.hpp"
#include "run/reference.hpp"
#include "run/runner.hpp"

namespace dkdm::run {
namespace {

std::string join(const std::vector<std::string>& names) {
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

class Planner {
 public:
  Planner(const config::Experiment& experiment, const Bench& bench, const record::ArtifactStore& store,
          CostModel& cost, const PlanExtras& extras)
      : experiment_(experiment), bench_(bench), store_(store), cost_(cost), extras_(extras),
        spec_(bench.dataset->spec()), dataset_(bench.dataset->fingerprint()) {}

 private:
  // What `look` returns of a plan of its own, which is then forgotten.
  template <class Look>
  auto aside(const Look& look) {
    Plan kept;
    std::swap(plan_, kept);
    auto seen = look();
    std::swap(plan_, kept);
    return seen;
  }

 public:
  Plan plan(const Selection& selection) {
    check_sample_counts();
    const auto seeds = selection.seeds.empty() ? experiment_.seeds : selection.seeds;
    auto chosen = experiment_;  // a row that was left out may be one that cannot be constructed
    if (!selection.rows.empty())
      std::erase_if(chosen.rows, [&](const config::Row& row) {
        return std::find(selection.rows.begin(), selection.rows.end(), row.id) == selection.rows.end();
      });
    check_limits(chosen, bench_, cost_, seeds.size());
    std::int64_t number = 0;
    for (const auto& id : selection.rows)
      if (std::none_of(experiment_.rows.begin(), experiment_.rows.end(),
                       [&](const auto& row) { return row.id == id; }))
        unknown_row(id);
    for (const auto seed : seeds) {
      for (std::size_t i = 0; i < experiment_.rows.size(); ++i) {
        const auto& row = experiment_.rows[i];
        if (!selection.rows.empty() &&
            std::find(selection.rows.begin(), selection.rows.end(), row.id) == selection.rows.end())
          continue;
        // The teacher is one network whatever the students' seed; its samples differ all the same.
        if (number++ % selection.shards == selection.shard - 1) {
          add_run(row, i, seed);
          plan_.asked.push_back(plan_.runs.back().record);
        } else {
          plan_.asked.push_back(aside([&] {
            add_run(row, i, seed);
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

  // Too few samples for a published table would show only after days of training. At desk scale they
  // are a person's choice: the evaluation warns.
  void check_sample_counts() const {
    if (experiment_.scale != "paper") return;
    const auto least =
        bench_.registry.evaluator(experiment_.evaluator, bench_.host)->least_samples();
    for (const auto& row : experiment_.rows)
      if (const auto count = row.sample.integer("count"); count < least)
        throw ConfigError(experiment_.file.string(),
                          "row \"" + row.id + "\": sample.count = " + std::to_string(count) +
                              ", but at scale \"paper\" the evaluator " +
                              experiment_.evaluator.name + " needs at least " +
                              std::to_string(least) +
                              " samples (twice its largest feature dimension)");
  }

  // A teacher from elsewhere that does not fit would show only when it is used, or, where its row is sampled
  // and scored alone, not at all. Nothing is loaded where all is done, or where a plan only gives keys.
  void check_teacher() const {
    if (!extras_.look || !external_teacher_ || missing_stages(plan_, store_).empty()) return;
    const auto model = bench_.registry.teacher(experiment_.teacher, bench_.host)->load();
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
                                    "; " + experiment_.file.string() + " has " + join(ids));
  }

  static Stage stage_of(std::string kind, std::string label, std::string plugin, record::KeyParts parts) {
    Stage stage;
    stage.kind = std::move(kind);
    stage.label = std::move(label);
    stage.plugin = std::move(plugin);
    stage.parts = std::move(parts);
    return stage;
  }

  // The stage with these parts; an equal one is shared.
  std::size_t add_stage(Stage stage) {
    stage.key = record::content_key(stage.parts);
    for (std::size_t i = 0; i < plan_.stages.size(); ++i)
      if (plan_.stages[i].kind == stage.kind && plan_.stages[i].key == stage.key) {
        plan_.stages[i].streamed = plan_.stages[i].streamed && stage.streamed;
        return i;
      }
    plan_.stages.push_back(std::move(stage));
    return plan_.stages.size() - 1;
  }

  std::filesystem::path folder(std::size_t stage) const {
    return store_.path(plan_.stages[stage].kind, plan_.stages[stage].key);
  }
  const std::string& key(std::size_t stage) const { return plan_.stages[stage].key; }

  double forward_s(const plugin::PluginChoice& student) {
    return extras_.estimate ? cost_.forward_s(student, {spec_, experiment_.diffusion}) : 0;
  }
  double teacher_forward_s() {
    return experiment_.teacher_training ? forward_s(experiment_.teacher_training->student) : 0;
  }

  // The teacher: trained here (a stage of the chain) or found by its plugin.
  TeacherSource teacher(Chain& chain) {
    TeacherSource source{experiment_.teacher, {}};
    external_teacher_ = !experiment_.teacher_training;
    if (experiment_.teacher_training) {
      constexpr std::int64_t kTeacherSeed = 0;  // one teacher for the students of every seed
      const auto stage =
          train_stage(*experiment_.teacher_training, kTeacherSeed, "train the teacher", chain);
      add_to(chain, "teacher", stage);
      source.folder = folder(stage);
    }
    return source;
  }

  std::string teacher_key(const TeacherSource& source) {
    const std::string weights = describe(source.choice) + "\n";
    return weights + (source.folder.empty() ? teacher_fingerprint(source)
                                            : source.folder.filename().string());
  }

  // Of a teacher that was not trained here: the hash of its weights.
  const std::string& teacher_fingerprint(const TeacherSource& source) {
    if (teacher_fingerprint_.empty())
      teacher_fingerprint_ = bench_.registry.teacher(source.choice, bench_.host)->fingerprint();
    return teacher_fingerprint_;
  }

  // What an external teacher's weights are. [sample] weights chooses among those of networks trained here
  // and says nothing of a file's.
  std::string teacher_weights() const {
    const auto teacher = bench_.registry.teacher(experiment_.teacher, bench_.host);
    const auto* states = dynamic_cast<const StatesWeights*>(teacher.get());
    const std::string own = states ? states->weights() : "";
    return own.empty() ? record::kUnlabelled : own;
  }

  static void add_to(Chain& chain, const std::string& name, std::size_t stage) {
    for (const auto& [_, present] : chain)
      if (present == stage) return;
    chain.emplace_back(name, stage);
  }

  std::size_t synthetic_stage(Chain& chain) {
    const auto source = teacher(chain);
    const auto stated = experiment_.synthetic.integer("count");
    const auto spec = sampling_spec(experiment_.synthetic,
                                    stated > 0 ? stated : bench_.dataset->size(),
                                    record::derive_seed(0, "synthetic"));
    Stage stage = stage_of("synthetic", "draw the synthetic set", source.choice.name,
                           {{"stage", "samples"},
                            {"teacher", teacher_key(source)},
                            {"diffusion", describe(experiment_.diffusion)},
                            {"sampling", describe(spec)}});
    stage.estimated_s = double(sampling_evaluations(spec)) * teacher_forward_s();
    stage.inputs = indices(chain);
    stage.work = [source, spec, evaluations = sampling_evaluations(spec)](
                     Bench& bench, const auto& folder, record::Manifest& manifest) {
      draw_samples(bench, source.load(bench), spec, folder, manifest);
      manifest.teacher_evaluations = evaluations;
    };
    return add_stage(std::move(stage));
  }

  // Images through the network, counted once a step.
  std::int64_t sampling_evaluations(const SamplingSpec& spec) const {
    const auto process = sampling_process(experiment_.diffusion, spec);
    return spec.count * sampling_steps(process, spec.sampler);
  }

  std::size_t train_stage(const config::Training& training, std::int64_t seed,
                          const std::string& label, Chain& chain, const train::Kept& kept = {}) {
    const auto method = bench_.registry.method(training.method, bench_.host);
    const Needs needs = method->needs();
    TrainingInputs inputs;
    record::KeyParts parts{{"stage", "train"},
                   {"student", describe(training.student)},
                   {"method", describe(training.method)},
                   {"train", describe_training(training.train)},
                   {"diffusion", describe(experiment_.diffusion)},
                   {"image", describe(spec_)},
                   {"seed", std::to_string(seed)}};
    Chain before;
    if (kept.every > 0)
      parts.emplace_back("kept", kept.weights + " every " + std::to_string(kept.every));
    if (needs.dataset) parts.emplace_back("dataset", dataset_);
    if (needs.teacher) {
      teaches_ = true;
      inputs.teacher = teacher(before);
      parts.emplace_back("teacher", teacher_key(*inputs.teacher));
    }
    if (needs.synthetic) {
      const auto stage = synthetic_stage(before);
      add_to(before, "synthetic", stage);
      inputs.synthetic = folder(stage);
      parts.emplace_back("synthetic", key(stage));
    }
    TrainingJob job{training, experiment_.diffusion, spec_, seed, "", kept};
    const auto batch = training.train.integer("batch");
    if (needs.preparation) {
      Stage stage = stage_of("pool", "prepare " + training.method.name, training.method.name,
                             {{"stage", "pool"},
                              {"method", describe(training.method)},
                              {"teacher", teacher_key(*inputs.teacher)},
                              {"diffusion", describe(experiment_.diffusion)},
                              {"image", describe(spec_)},
                              {"batch", std::to_string(batch)},
                              {"seed", std::to_string(seed)}});
      stage.estimated_s =
          double(method->preparation_evaluations(experiment_.diffusion, batch)) *
          teacher_forward_s();
      stage.inputs = indices(before);
      stage.work = [job, inputs](Bench& bench, const auto& folder, record::Manifest& manifest) {
        prepare_method(bench, job, inputs, folder, manifest);
      };
      const auto added = add_stage(std::move(stage));
      add_to(before, "pool", added);
      inputs.pool = folder(added);
      parts.emplace_back("pool", key(added));
    }
    Stage stage = stage_of("train", label, training.student.name, parts);
    const auto steps = training.train.integer("steps");
    stage.estimated_s =
        double(steps * batch) * CostModel::kTrainingForwards * forward_s(training.student);
    if (needs.teacher)
      stage.estimated_s +=
          double(method->training_evaluations(experiment_.diffusion, batch, steps)) *
          teacher_forward_s();
    stage.inputs = indices(before);
    job.stage_key = record::content_key(parts);
    stage.work = [job, inputs](Bench& bench, const auto& folder, record::Manifest& manifest) {
      train_student(bench, job, inputs, folder, manifest);
    };
    for (const auto& [name, index] : before) add_to(chain, name, index);
    return add_stage(std::move(stage));
  }

  std::size_t evaluator_stage() {
    if (evaluator_parts_.empty()) {
      const auto identity =
          bench_.registry.evaluator(experiment_.evaluator, bench_.host)->identity();
      evaluator_has_identity_ = !identity.empty();
      evaluator_parts_ = evaluator_parts(experiment_.evaluator, identity, dataset_);
    }
    Stage stage = stage_of("evaluator", "prepare the evaluator", experiment_.evaluator.name,
                           evaluator_parts_);
    // Evaluators do not say what they cost; this is the desk-scale classifier's order of magnitude.
    stage.estimated_s = 25;
    const auto choice = experiment_.evaluator;
    const Reference reference{recipe_of(experiment_.dataset), bench_.dataset, std::nullopt};
    stage.work = [choice, reference](Bench& bench, const auto& folder, record::Manifest&) {
      fill_reference(*bench.registry.evaluator(choice, bench.host), choice, reference, folder);
    };
    return add_stage(std::move(stage));
  }

  static std::vector<std::size_t> indices(const Chain& chain) {
    std::vector<std::size_t> result;
    for (const auto& [_, stage] : chain) result.push_back(stage);
    return result;
  }

  // What a row's training keeps to be evaluated afterwards.
  train::Kept kept_of(const config::Row& row) const {
    const auto every = experiment_.evaluate.integer("every");
    if (every >= row.training->train.integer("steps")) return {};  // the last step is always evaluated
    return {every, row.sample.text("weights"), {}};
  }

  // A network to evaluate: the student of a row, or the teacher.
  struct Network {
    TeacherSource source;
    std::string key;
    std::vector<std::size_t> inputs;  // stages that make it
    double forward_s = 0;
    std::int64_t steps = 0;
    std::string weights;  // as values are recorded: "ema", "raw" or kUnlabelled

    TrainedModel load(Bench& bench, const std::string& weights) const {
      return source.folder.empty() ? source.load(bench)
                                   : bench.host.load_model(source.folder, weights);
    }
  };

  Network network_of(const config::Row& row, std::int64_t seed, Chain& chain) {
    Network network{{{"teacher", "", "", {}}, {}}, "", {}, 0, 0, row.sample.text("weights")};
    if (row.training) {
      const auto stage =
          train_stage(*row.training, seed, "train " + row.id, chain, kept_of(row));
      add_to(chain, "train", stage);
      network.source.folder = folder(stage);
      network.key = key(stage);
      network.inputs = {stage};
      network.forward_s = forward_s(row.training->student);
      network.steps = row.training->train.integer("steps");
    } else {
      network.source = teacher(chain);
      network.key = teacher_key(network.source);
      network.inputs = indices(chain);
      network.forward_s = teacher_forward_s();
      if (experiment_.teacher_training) {
        network.steps = experiment_.teacher_training->train.integer("steps");
      } else {
        network.weights = teacher_weights();
      }
    }
    return network;
  }

  SamplingSpec spec_of(const config::Row& row, std::int64_t seed) const {
    return sampling_spec(row.sample, row.sample.integer("count"), record::derive_seed(seed, "sample"));
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

  std::size_t sample_stage(const config::Row& row, const Network& network,
                           const SamplingSpec& spec) {
    const auto& weights = network.weights;
    Stage stage = stage_of("sample", "sample " + row.id, "",
                           {{"stage", "samples"},
                            {"network", network.key},
                            {"weights", weights},
                            {"diffusion", describe(experiment_.diffusion)},
                            {"sampling", describe(spec)}});
    stage.streamed = !row.sample.flag("save");
    stage.estimated_s = double(sampling_evaluations(spec)) * network.forward_s;
    stage.inputs = network.inputs;
    stage.work = [network, weights, spec](Bench& bench, const auto& folder, record::Manifest& manifest) {
      draw_samples(bench, network.load(bench, weights), spec, folder, manifest);
    };
    return add_stage(std::move(stage));
  }

  // The samples' key stands in this one's whether they are on disk or not: the values are the same.
  std::size_t evaluate_stage(const config::Row& row, const Network& network,
                             const SamplingSpec& spec, std::size_t samples, std::size_t evaluator) {
    const auto& sample = plan_.stages[samples];
    const bool on_disk = !sample.streamed || store_.find(sample.kind, sample.key);
    Stage stage = stage_of("evaluate", (on_disk ? "evaluate " : "sample and evaluate ") + row.id,
                           experiment_.evaluator.name,
                           {{"stage", "evaluate"},
                            {"samples", sample.key},
                            {"evaluator", key(evaluator)}});
    add_evaluator_parameters(stage);
    stage.estimated_s = 1 + (on_disk ? 0 : sample.estimated_s);
    stage.inputs = on_disk ? std::vector<std::size_t>{samples} : network.inputs;
    stage.inputs.push_back(evaluator);
    record::Manifest drawn;
    drawn.stage = sample.kind;
    drawn.key = sample.key;
    drawn.parts = sample.parts;
    const Evaluation evaluation{experiment_.evaluator, folder(evaluator), network.weights,
                                network.steps};
    stage.work = [network, spec, evaluation, drawn, samples_folder = folder(samples),
                  store = &store_](Bench& bench, const auto& folder, record::Manifest& manifest) {
      if (store->find(drawn.stage, drawn.key)) {
        evaluate_saved(bench, evaluation, samples_folder, folder, manifest);
      } else {
        evaluate_drawn(bench, evaluation, network.load(bench, evaluation.weights), spec, drawn,
                       folder, manifest);
      }
    };
    return add_stage(std::move(stage));
  }

  // Parameters that do not enter the prepared evaluator enter where it is used.
  void add_evaluator_parameters(Stage& stage) const {
    if (evaluator_has_identity_)
      stage.parts.emplace_back("parameters", experiment_.evaluator.params.canonical());
  }

  // The evaluations on the way, where the training keeps weights for them. The evaluation at the end is
  // one of them, made again only where it had another number of images.
  std::size_t course_stage(const config::Row& row, const Network& network, SamplingSpec spec,
                           std::size_t evaluate, std::size_t evaluator) {
    const auto every = experiment_.evaluate.integer("every");
    const auto count = experiment_.evaluate.integer("count");
    std::vector<std::int64_t> steps;
    for (auto step = every; step < network.steps; step += every) steps.push_back(step);
    if (count > 0 && count != spec.count) {
      spec.count = count;
      steps.push_back(network.steps);
    }
    Stage stage = stage_of("course", "evaluate " + row.id + " as it trained",
                           experiment_.evaluator.name,
                           {{"stage", "course"},
                            {"network", network.key},
                            {"steps", to_text(Value(steps))},
                            {"diffusion", describe(experiment_.diffusion)},
                            {"sampling", describe(spec)},
                            {"evaluator", key(evaluator)},
                            {"evaluate", key(evaluate)}});
    add_evaluator_parameters(stage);
    stage.estimated_s =
        double(steps.size()) * (1 + double(sampling_evaluations(spec)) * network.forward_s);
    stage.inputs = network.inputs;
    stage.inputs.push_back(evaluator);
    const Evaluation evaluation{experiment_.evaluator, folder(evaluator),
                                row.sample.text("weights"), 0};
    stage.work = [evaluation, steps, spec, trained = network.source.folder](
                     Bench& bench, const auto& folder, record::Manifest& manifest) {
      evaluate_course(bench, evaluation, trained, steps, spec, folder, manifest);
    };
    return add_stage(std::move(stage));
  }

  void add_run(const config::Row& row, std::size_t order, std::int64_t seed) {
    PlannedRun run;
    Chain& chain = run.stages;
    warn_of_short_average(row);
    const Network network = network_of(row, seed, chain);
    const auto spec = spec_of(row, seed);
    run.sample_stage = sample_stage(row, network, spec);
    add_to(chain, "sample", run.sample_stage);
    const auto evaluator = evaluator_stage();
    add_to(chain, "evaluator", evaluator);
    run.evaluate_stage = evaluate_stage(row, network, spec, run.sample_stage, evaluator);
    add_to(chain, "evaluate", run.evaluate_stage);
    if (!plan_.stages[run.sample_stage].streamed) run.outputs.push_back(run.sample_stage);
    run.outputs.push_back(run.evaluate_stage);
    if (row.training && kept_of(row).every > 0) {
      const auto course = course_stage(row, network, spec, run.evaluate_stage, evaluator);
      add_to(chain, "course", course);
      run.outputs.push_back(course);
    }
    run.record = record(row, order, seed, key(chain.back().second));
    run.record.samples = key(run.sample_stage);
    run.record.variant = variant_of(row);
    add_teacher(row, run);
    plan_.runs.push_back(std::move(run));
  }

  bool uses_teacher(const config::Row& row) const {
    if (!row.training) return true;
    const Needs needs = bench_.registry.method(row.training->method, bench_.host)->needs();
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
        source.folder.empty() ? teacher_fingerprint(source) : source.folder.filename().string();
  }

  record::RunRecord record(const config::Row& row, std::size_t order, std::int64_t seed,
                   const std::string& key) {
    record::RunRecord record;
    record.key = key;
    record.experiment = experiment_.name;
    record.title = experiment_.title;
    record.table = experiment_.table;
    record.published_section = experiment_.published;
    record.published_row = row.published;
    record.scale = experiment_.scale;
    record.file = experiment_.file.string();
    record.row = row.id;
    record.label = row.label;
    record.row_order = static_cast<std::int64_t>(order);
    record.seed = seed;
    const auto& training = row.training ? row.training : experiment_.teacher_training;
    if (row.training) record.method = row.training->method.name;  // "" marks the teacher
    if (training) {
      record.student = training->student.name;
      record.parameters = cost_.parameters(training->student, {spec_, experiment_.diffusion});
    }
    record.dataset = experiment_.dataset.name;
    record.evaluator = experiment_.evaluator.name;
    record.config = experiment_.resolved;
    return record;
  }

  const config::Experiment& experiment_;
  const Bench& bench_;
  const record::ArtifactStore& store_;
  CostModel& cost_;
  const PlanExtras extras_;
  const ImageSpec spec_;
  const std::string dataset_;
  std::string teacher_fingerprint_;
  std::map<std::string, std::string> variants_;  // by row
  record::KeyParts evaluator_parts_;
  bool evaluator_has_identity_ = false;
  bool external_teacher_ = false, teaches_ = false;
  Plan plan_;
};

}  // namespace

Plan make_plan(const config::Experiment& experiment, const Selection& selection,
               const Bench& bench, const record::ArtifactStore& store, CostModel& cost,
               const PlanExtras& extras) {
  return Planner(experiment, bench, store, cost, extras).plan(selection);
}

}  // namespace dkdm::run
