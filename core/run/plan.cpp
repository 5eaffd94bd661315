#include "run/plan.hpp"

#include <algorithm>
#include <map>

#include "run/reference.hpp"

namespace dkdm::run {
namespace {

std::string join(const std::vector<std::string>& names) {
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

std::string describe(const plugin::PluginChoice& choice) {
  return choice.name + " " + choice.version + "\n" + choice.params.canonical();
}

// What is at its default is left out, so that keys of before there was a choice stay good.
std::string describe(const DiffusionConfig& config) {
  std::string text = config.schedule + " " + std::to_string(config.steps);
  if (config.beta_start != 0) text += " beta_start " + to_text(Value(config.beta_start));
  if (config.beta_end != 0) text += " beta_end " + to_text(Value(config.beta_end));
  if (config.variance != DiffusionConfig().variance) text += " variance " + config.variance;
  if (config.variance_range != DiffusionConfig().variance_range)
    text += " variance_range " + config.variance_range;
  return text;
}

std::string describe(const ImageSpec& spec) {
  return std::to_string(spec.channels) + "x" + std::to_string(spec.size);
}

// All that changes a sample; not the batch size, on which no sample depends.
std::string describe(const SamplingSpec& spec) {
  return spec.sampler.sampler + " eta " + to_text(Value(spec.sampler.eta)) + " clip " +
         to_text(Value(spec.sampler.clip_denoised)) + " respacing " + spec.respacing + " steps " +
         std::to_string(spec.sampler.solver_steps) + " count " + std::to_string(spec.count) +
         " seed " + std::to_string(spec.seed);
}

// [train] without what only says how often to look.
std::string describe_training(const Params& train) {
  std::string text;
  for (const auto& [name, value] : train.values())
    if (name != "checkpoint_every" && name != "log_every") text += name + " = " + to_text(value) + "\n";
  return text;
}

class Planner {
 public:
  Planner(const config::Experiment& experiment, const Bench& bench, const ArtifactStore& store,
          CostModel& cost, bool estimate)
      : experiment_(experiment), bench_(bench), store_(store), cost_(cost), estimate_(estimate),
        spec_(bench.dataset->spec()), dataset_(bench.dataset->fingerprint()) {}

  Plan plan(const Selection& selection) {
    check_sample_counts();
    const auto seeds = selection.seeds.empty() ? experiment_.seeds : selection.seeds;
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
        if (number++ % selection.shards == selection.shard - 1) add_run(row, i, seed);
      }
    }
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

  [[noreturn]] void unknown_row(const std::string& id) const {
    std::vector<std::string> ids;
    for (const auto& row : experiment_.rows) ids.push_back(row.id);
    const auto near = nearest_name(id, ids);
    throw ConfigError("--rows", "no row \"" + id + "\"" +
                                    (near.empty() ? "" : " (did you mean \"" + near + "\"?)") +
                                    "; " + experiment_.file.string() + " has " + join(ids));
  }

  static Stage stage_of(std::string kind, std::string label, std::string plugin, KeyParts parts) {
    Stage stage;
    stage.kind = std::move(kind);
    stage.label = std::move(label);
    stage.plugin = std::move(plugin);
    stage.parts = std::move(parts);
    return stage;
  }

  // The stage with these parts; an equal one is shared.
  std::size_t add_stage(Stage stage) {
    stage.key = content_key(stage.parts);
    for (std::size_t i = 0; i < plan_.stages.size(); ++i)
      if (plan_.stages[i].kind == stage.kind && plan_.stages[i].key == stage.key) return i;
    plan_.stages.push_back(std::move(stage));
    return plan_.stages.size() - 1;
  }

  std::filesystem::path folder(std::size_t stage) const {
    return store_.path(plan_.stages[stage].kind, plan_.stages[stage].key);
  }
  const std::string& key(std::size_t stage) const { return plan_.stages[stage].key; }

  double forward_s(const plugin::PluginChoice& student) {
    return estimate_ ? cost_.forward_s(student, spec_) : 0;
  }
  double teacher_forward_s() {
    return experiment_.teacher_training ? forward_s(experiment_.teacher_training->student) : 0;
  }

  // The teacher: trained here (a stage of the chain) or found by its plugin.
  TeacherSource teacher(Chain& chain) {
    TeacherSource source{experiment_.teacher, {}};
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
    if (!source.folder.empty()) return weights + source.folder.filename().string();
    if (teacher_fingerprint_.empty())
      teacher_fingerprint_ = bench_.registry.teacher(source.choice, bench_.host)->fingerprint();
    return weights + teacher_fingerprint_;
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
                                    derive_seed(0, "synthetic"));
    Stage stage = stage_of("synthetic", "draw the synthetic set", source.choice.name,
                           {{"stage", "samples"},
                            {"teacher", teacher_key(source)},
                            {"diffusion", describe(experiment_.diffusion)},
                            {"sampling", describe(spec)}});
    stage.estimated_s = double(sampling_evaluations(spec)) * teacher_forward_s();
    stage.inputs = indices(chain);
    stage.work = [source, spec, evaluations = sampling_evaluations(spec)](
                     Bench& bench, const auto& folder, Manifest& manifest) {
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
                          const std::string& label, Chain& chain) {
    const auto method = bench_.registry.method(training.method, bench_.host);
    const Needs needs = method->needs();
    TrainingInputs inputs;
    KeyParts parts{{"stage", "train"},
                   {"student", describe(training.student)},
                   {"method", describe(training.method)},
                   {"train", describe_training(training.train)},
                   {"diffusion", describe(experiment_.diffusion)},
                   {"image", describe(spec_)},
                   {"seed", std::to_string(seed)}};
    Chain before;
    if (needs.dataset) parts.emplace_back("dataset", dataset_);
    if (needs.teacher) {
      inputs.teacher = teacher(before);
      parts.emplace_back("teacher", teacher_key(*inputs.teacher));
    }
    if (needs.synthetic) {
      const auto stage = synthetic_stage(before);
      add_to(before, "synthetic", stage);
      inputs.synthetic = folder(stage);
      parts.emplace_back("synthetic", key(stage));
    }
    TrainingJob job{training, experiment_.diffusion, spec_, seed, ""};
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
      stage.work = [job, inputs](Bench& bench, const auto& folder, Manifest& manifest) {
        prepare_method(bench, job, inputs, folder, manifest);
      };
      const auto added = add_stage(std::move(stage));
      add_to(before, "pool", added);
      inputs.pool = folder(added);
      parts.emplace_back("pool", key(added));
    }
    Stage stage = stage_of("train", label, training.student.name, parts);
    stage.estimated_s = double(training.train.integer("steps") * batch) *
                        (CostModel::kTrainingForwards * forward_s(training.student) +
                         (needs.teacher ? teacher_forward_s() : 0));
    stage.inputs = indices(before);
    job.stage_key = content_key(parts);
    stage.work = [job, inputs](Bench& bench, const auto& folder, Manifest& manifest) {
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
    stage.work = [choice, reference](Bench& bench, const auto& folder, Manifest&) {
      fill_reference(*bench.registry.evaluator(choice, bench.host), choice, reference, folder);
    };
    return add_stage(std::move(stage));
  }

  static std::vector<std::size_t> indices(const Chain& chain) {
    std::vector<std::size_t> result;
    for (const auto& [_, stage] : chain) result.push_back(stage);
    return result;
  }

  void add_run(const config::Row& row, std::size_t order, std::int64_t seed) {
    Chain chain;
    TeacherSource network{{"teacher", "", "", {}}, {}};
    std::string network_key;
    double network_forward_s = 0;
    std::int64_t trained_steps = 0;
    if (row.training) {
      const auto stage = train_stage(*row.training, seed, "train " + row.id, chain);
      add_to(chain, "train", stage);
      network = trained_here(folder(stage));
      network_key = key(stage);
      network_forward_s = forward_s(row.training->student);
      trained_steps = row.training->train.integer("steps");
    } else {
      network = teacher(chain);
      network_key = teacher_key(network);
      network_forward_s = teacher_forward_s();
      if (experiment_.teacher_training)
        trained_steps = experiment_.teacher_training->train.integer("steps");
    }

    const auto weights = row.sample.text("weights");
    const auto spec =
        sampling_spec(row.sample, row.sample.integer("count"), derive_seed(seed, "sample"));
    Stage sample = stage_of("sample", "sample " + row.id, "",
                            {{"stage", "samples"},
                             {"network", network_key},
                             {"weights", weights},
                             {"diffusion", describe(experiment_.diffusion)},
                             {"sampling", describe(spec)}});
    sample.estimated_s = double(sampling_evaluations(spec)) * network_forward_s;
    sample.inputs = indices(chain);
    sample.work = [network, weights, spec](Bench& bench, const auto& folder, Manifest& manifest) {
      const auto model = network.folder.empty()
                             ? network.load(bench)
                             : bench.host.load_model(network.folder, weights);
      draw_samples(bench, model, spec, folder, manifest);
    };
    const auto sample_stage = add_stage(std::move(sample));
    add_to(chain, "sample", sample_stage);

    const auto evaluator = evaluator_stage();
    add_to(chain, "evaluator", evaluator);
    Stage evaluate = stage_of("evaluate", "evaluate " + row.id, experiment_.evaluator.name,
                              {{"stage", "evaluate"},
                               {"samples", key(sample_stage)},
                               {"evaluator", key(evaluator)}});
    // Parameters that do not enter the prepared evaluator enter here.
    if (evaluator_has_identity_)
      evaluate.parts.emplace_back("parameters", experiment_.evaluator.params.canonical());
    evaluate.estimated_s = 1;
    evaluate.inputs = {sample_stage, evaluator};
    evaluate.work = [choice = experiment_.evaluator, evaluator_folder = folder(evaluator),
                     samples_folder = folder(sample_stage), trained_steps, weights](
                        Bench& bench, const auto& folder, Manifest& manifest) {
      evaluate_samples(bench, choice, evaluator_folder, samples_folder, trained_steps, weights,
                       folder, manifest);
    };
    const auto evaluate_stage = add_stage(std::move(evaluate));
    add_to(chain, "evaluate", evaluate_stage);
    plan_.runs.push_back({record(row, order, seed, key(evaluate_stage)), chain, sample_stage});
  }

  static TeacherSource trained_here(const std::filesystem::path& folder) {
    return {{"teacher", "", "", {}}, folder};
  }

  RunRecord record(const config::Row& row, std::size_t order, std::int64_t seed,
                   const std::string& key) {
    RunRecord record;
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
      record.parameters = cost_.parameters(training->student, spec_);
    }
    record.teacher = experiment_.teacher.name;
    record.dataset = experiment_.dataset.name;
    record.evaluator = experiment_.evaluator.name;
    record.config = experiment_.resolved;
    return record;
  }

  const config::Experiment& experiment_;
  const Bench& bench_;
  const ArtifactStore& store_;
  CostModel& cost_;
  const bool estimate_;
  const ImageSpec spec_;
  const std::string dataset_;
  std::string teacher_fingerprint_;
  KeyParts evaluator_parts_;
  bool evaluator_has_identity_ = false;
  Plan plan_;
};

}  // namespace

KeyParts evaluator_parts(const plugin::PluginChoice& choice, const std::string& identity,
                         const std::string& reference) {
  const std::string evaluator =
      identity.empty() ? describe(choice) : choice.name + " " + choice.version + "\n" + identity;
  return {{"stage", "evaluator"}, {"evaluator", evaluator}, {"dataset", reference}};
}

Plan make_plan(const config::Experiment& experiment, const Selection& selection,
               const Bench& bench, const ArtifactStore& store, CostModel& cost, bool estimate) {
  return Planner(experiment, bench, store, cost, estimate).plan(selection);
}

}  // namespace dkdm::run
