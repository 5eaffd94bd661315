// What iterative, shuffled and dynamic distillation share (dkdm/distillation.hpp).
#include "dkdm/distillation.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <ATen/ATen.h>

#include "dkdm/batch_set.hpp"
#include "dkdm/denoising.hpp"
#include "dkdm/diffusion.hpp"
#include "dkdm/features.hpp"
#include "dkdm/io.hpp"
#include "method/teacher_fit.hpp"

namespace dkdm {

namespace {

std::string described(const DiffusionConfig& config) {
  std::string text = config.schedule + " noise in " + std::to_string(config.steps) + " steps";
  if (config.beta_start != 0) text += ", beta_start " + to_text(Value(config.beta_start));
  if (config.beta_end != 0) text += ", beta_end " + to_text(Value(config.beta_end));
  return text + ", variance " + config.variance;
}

// The chain that the teacher walks: the run's process, respaced when `respacing` says so; v of an
// output has the meaning that `variance_range` names.
GaussianDiffusion chain_of(const MethodContext& context, const std::string& respacing,
                           const std::string& variance_range) {
  for (const std::string& misfit : {process_misfit(*context.teacher, context.diffusion),
                                    image_misfit(*context.teacher, context.shape)})
    if (!misfit.empty()) throw ConfigError(misfit);
  DiffusionConfig chain = context.diffusion;
  if (!respacing.empty()) chain.respacing = respacing;
  chain.variance_range = variance_range;
  return GaussianDiffusion(chain);
}

// A parameter that not every distillation method declares.
template <class T>
T value_or(const Params& params, const std::string& name, T otherwise) {
  const auto found = params.values().find(name);
  return found == params.values().end() ? otherwise : std::get<T>(found->second);
}

TeacherClip clip_named(const std::string& name) {
  if (name == "chain") return TeacherClip::chain;
  return name == "none" ? TeacherClip::none : TeacherClip::both;
}

}  // namespace

std::string image_misfit(const TrainedModel& teacher, const SampleShape& shape) {
  if (teacher.shape == shape) return "";
  return "the teacher makes images of " + text_of(teacher.shape) + ", the run's are " +
         text_of(shape);
}

std::string process_misfit(const TrainedModel& teacher, const DiffusionConfig& run) {
  const DiffusionConfig& taught = teacher.diffusion;
  if (taught.schedule == run.schedule && taught.steps == run.steps &&
      taught.beta_start == run.beta_start && taught.beta_end == run.beta_end &&
      taught.variance == run.variance) {
    return "";
  }
  return "the teacher was trained with " + described(taught) + "; the run's [diffusion] says " +
         described(run) + ": they must be equal";
}

struct Distillation::Options {
  std::string respacing;
  bool student_clip, decode, upfront;
  double lambda;
  WalkOptions walk;
  std::string teacher_clip;
  std::int64_t teacher_batch;
  double prepared_rho;
};

struct Distillation::Walk {
  Walk(const MethodContext& context, const Options& options, const Distillation& method)
      : host(&context.host), shape(context.shape), batch(context.batch), seed(context.seed),
        teacher(context.teacher->network), on_host(context.pool_on_host),
        chain(chain_of(context, options.respacing, context.diffusion.variance_range)),
        teacher_chain(
            chain_of(context, options.respacing, context.teacher->diffusion.variance_range)),
        set(teacher_chain, shape, seed, method.set_size(chain.num_steps(), batch),
            options.walk.clip, host->device(), context.pool_on_host) {}

  Host* host;
  SampleShape shape;
  std::int64_t batch;
  std::uint64_t seed;
  std::shared_ptr<Denoiser> teacher;
  bool on_host;
  // The same chain twice: v of the teacher's network may mean another variance than the student's.
  GaussianDiffusion chain, teacher_chain;
  BatchSet set;
};

Distillation::Distillation(const Params& params)
    : options_(new Options{
          .respacing = params.text("respacing"),
          .student_clip = params.flag("student_clip"),
          .decode = params.text("t0_term") == "decoder",
          .upfront = value_or<std::string>(params, "prepare", "") == "upfront",
          .lambda = params.real("lambda"),
          .walk = {clip_named(params.text("teacher_clip")),
                   value_or<std::string>(params, "first_states", "") == "all" ? FirstStates::all
                                                                              : FirstStates::inner},
          .teacher_clip = params.text("teacher_clip"),
          .teacher_batch = value_or<std::int64_t>(params, "teacher_batch", 0),
          .prepared_rho = value_or<double>(params, "prepared_rho", 0)}) {}

Distillation::~Distillation() = default;

ParamTable Distillation::chain_params() {
  return {text("respacing", "",
               "respacing of the chain that the teacher walks and the student learns, "
               "as \"50\" or \"ddim25\" (empty = every step)"),
          flag("student_clip", false,
               "clip the student's predicted image in the KL term as the "
               "teacher's is (false = the authors' code)"),
          real("lambda", 1.0,
               "weight of the KL term, in bits per dimension and step (a respaced "
               "chain's rescaled loss is its steps / all steps)")
              .between(0, 1e6),
          text("teacher_clip", "both",
               "where the teacher's predicted image is clipped: in its steps "
               "and in the KL term (both, the authors' code), in its steps "
               "alone (chain), or nowhere (none, the paper)")
              .one_of({"both", "chain", "none"}),
          text("t0_term", "kl",
               "second term at t = 0: the KL term, as at all other steps (kl, the authors' "
               "code), or the likelihood of the teacher's image (decoder)")
              .one_of({"kl", "decoder"})};
}

ParamTable Distillation::preparation_params() {
  return {text("prepare", "upfront",
               "random states before training (upfront), or no preparation "
               "and a spread that builds up in training (streaming)")
              .one_of({"upfront", "streaming"}),
          integer("teacher_batch", 0,
                  "rows that the preparation denoises together (0 = the "
                  "training batch)")
              .between(0, 65536),
          text("first_states", "inner",
               "states that rows are first denoised to, uniform on 1 … T-1 "
               "(inner, the authors' code) or on 1 … T (all, the paper)")
              .one_of({"inner", "all"}),
          // What it changes is which set is prepared, and that has a key of its own.
          real("prepared_rho", 0,
               "size of the set that is prepared, as rho, of which this one is the first rows: "
               "methods that differ in rho prepare one set together (0 = their own)")
              .between(0, 100)
              .no_effect_on_result()};
}

std::int64_t Distillation::begin_evaluations(std::int64_t, std::int64_t) const { return 0; }

std::int64_t Distillation::set_size(std::int64_t, std::int64_t batch) const { return batch; }

Needs Distillation::needs() const {
  Needs needs;
  needs.teacher = true;
  needs.preparation = options_->upfront;
  return needs;
}

void Distillation::prepare(const MethodContext& context, const std::filesystem::path& dir) {
  const GaussianDiffusion chain =
      chain_of(context, options_->respacing, context.teacher->diffusion.variance_range);
  prepare_pool(context, chain, prepared_rows(chain.num_steps(), context.batch),
               options_->teacher_batch > 0 ? options_->teacher_batch : context.batch, dir,
               options_->walk);
}

// Not the loss's parameters (lambda, student_clip, t0_term); and of those that only say how many
// rows the set has, such as rho, that number. Nor which subclass it is for: all are prepared here,
// and shuffled's batch is the first one of dynamic's set.
std::string Distillation::preparation_identity(const DiffusionConfig& diffusion,
                                               std::int64_t batch) const {
  const Options& options = *options_;
  const auto together = options.teacher_batch > 0 ? options.teacher_batch : batch;
  return "prepared by dkdm::Distillation 1\nrespacing = " + to_text(Value(options.respacing)) +
         "\nteacher_clip = " + options.teacher_clip +
         "\nfirst_states = " + (options.walk.first_states == FirstStates::all ? "all" : "inner") +
         "\nteacher_batch = " + std::to_string(together) +
         "\nrows = " + std::to_string(prepared_rows(chain_steps(diffusion), batch)) + "\n";
}

std::int64_t Distillation::preparation_evaluations(const DiffusionConfig& diffusion,
                                                   std::int64_t batch) const {
  if (!options_->upfront) return 0;
  const std::int64_t steps = chain_steps(diffusion);
  return prepared_rows(steps, batch) * steps / 2;
}

std::int64_t Distillation::training_evaluations(const DiffusionConfig& diffusion,
                                                std::int64_t batch, std::int64_t steps) const {
  return batch * steps + (options_->upfront ? 0 : begin_evaluations(chain_steps(diffusion), batch));
}

double Distillation::held_bytes(const DiffusionConfig& diffusion, const SampleShape& shape,
                                std::int64_t batch) const {
  return static_cast<double>(prepared_rows(chain_steps(diffusion), batch)) *
         static_cast<double>(shape.values()) * sizeof(float);
}

// nearbyint rounds halves to even, as the authors' Python does.
std::int64_t Distillation::rows_of(double rho, std::int64_t chain_steps, std::int64_t batch) {
  const auto batches =
      static_cast<std::int64_t>(std::nearbyint(rho * static_cast<double>(chain_steps)));
  return std::max<std::int64_t>(batches, 1) * batch;
}

std::int64_t Distillation::prepared_rows(std::int64_t chain_steps, std::int64_t batch) const {
  const std::int64_t own = set_size(chain_steps, batch);
  if (options_->prepared_rho == 0 || !options_->upfront) return own;
  const std::int64_t rows = rows_of(options_->prepared_rho, chain_steps, batch);
  if (rows >= own) return rows;
  throw ConfigError("prepared_rho = " + to_text(Value(options_->prepared_rho)) + " prepares " +
                    std::to_string(rows) + " rows, the set has " + std::to_string(own) +
                    "; give at least its rho");
}

std::int64_t Distillation::chain_steps(const DiffusionConfig& diffusion) const {
  const std::string& respacing =
      options_->respacing.empty() ? diffusion.respacing : options_->respacing;
  return static_cast<std::int64_t>(respaced_steps(diffusion.steps, respacing).size());
}

void Distillation::start(const MethodContext& context, const std::filesystem::path& prepared) {
  walk_ = std::make_unique<Walk>(context, *options_, *this);
  if (prepared.empty()) return;

  const std::filesystem::path file = prepared / "pool.safetensors";
  const TensorMap pool = io::load_tensors(file);
  const SampleShape& shape = walk_->shape;
  const std::int64_t rows = prepared_rows(walk_->chain.num_steps(), walk_->batch);
  const auto expected = shape.batch(rows);
  if (pool.count("x") == 0 || pool.count("state") == 0 ||
      pool.at("x").sizes() != at::IntArrayRef(expected)) {
    throw DataError(file.string(),
                    "is not a batch set of " + std::to_string(rows) + " rows of this run's images");
  }
  const std::int64_t own = set_size(walk_->chain.num_steps(), walk_->batch);
  walk_->set.fill(pool.at("x").narrow(0, 0, own), pool.at("state").narrow(0, 0, own));
}

const GaussianDiffusion& Distillation::diffusion() const { return walk_->chain; }
TensorMap Distillation::state() const { return set().state(); }
void Distillation::restore(const TensorMap& state) { set().restore(state); }
BatchSet& Distillation::set() const { return walk_->set; }
std::int64_t Distillation::rows() const { return set().rows(); }
std::int64_t Distillation::batch() const { return walk_->batch; }
std::uint64_t Distillation::seed() const { return walk_->seed; }

void Distillation::begin_shuffled() {
  Walk& walk = *walk_;
  const at::Tensor rows = at::arange(walk.batch, at::kLong);
  const at::Tensor states = first_states();
  const auto total = (walk.chain.num_steps() - states).sum().item<std::int64_t>();
  std::int64_t done = 0;
  const auto count_forwards = [&](std::int64_t count) {
    done += count;
    walk.host->progress("teacher steps", done, total);
  };
  const at::Tensor x = shuffle_denoise(*walk.teacher, walk.teacher_chain, walk.shape, walk.seed,
                                       rows, states, count_forwards, options_->walk.clip);
  walk.set.fill(x, states);
}

at::Tensor Distillation::first_states() const {
  return random_states(walk_->seed, walk_->batch, walk_->chain.num_steps(),
                       options_->walk.first_states);
}

TrainBatch Distillation::next(std::int64_t step) {
  if (walk_->set.rows() == 0) begin();
  const auto advance = [&] {
    TrainBatch batch = walk_->set.advance(*walk_->teacher, draw(step), step);
    if (walk_->on_host) walk_->set.expect(draw(step + 1));
    return batch;
  };
  const std::vector<std::string> names = teacher_features();
  if (names.empty()) return advance();
  Features features(*walk_->teacher, names);
  TrainBatch batch = advance();
  batch.teacher_features = features.take();
  return batch;
}

LossTerms Distillation::loss(const TrainBatch& batch, const at::Tensor& output) const {
  return distillation_loss(walk_->chain, output, batch.x_t, batch.t, batch.teacher,
                           options_->student_clip, options_->lambda,
                           options_->decode ? batch.x_prev : at::Tensor());
}

ParamTable joined(std::initializer_list<ParamTable> tables) {
  ParamTable all;
  for (const ParamTable& table : tables) all.insert(all.end(), table.begin(), table.end());
  return all;
}

}  // namespace dkdm
