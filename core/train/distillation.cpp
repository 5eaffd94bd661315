// The batch set and the step shared by iterative, shuffled and dynamic distillation.
#include "dkdm/distillation.hpp"

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include <ATen/ATen.h>

#include "dkdm/io.hpp"

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
  const DiffusionConfig& run = context.diffusion;
  const DiffusionConfig& taught = context.teacher->diffusion;
  if (taught.schedule != run.schedule || taught.steps != run.steps ||
      taught.beta_start != run.beta_start || taught.beta_end != run.beta_end ||
      taught.variance != run.variance) {
    throw ConfigError("the teacher was trained with " + described(taught) + "; the run's " +
                      "[diffusion] says " + described(run) + ": they must be equal");
  }
  if (context.teacher->spec != context.spec) {
    throw ConfigError("the teacher makes images of " + std::to_string(context.teacher->spec.size) +
                      " pixels and " + std::to_string(context.teacher->spec.channels) +
                      " channels, the run's have " + std::to_string(context.spec.size) + " and " +
                      std::to_string(context.spec.channels));
  }
  DiffusionConfig chain = run;
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

BatchSet::BatchSet(const GaussianDiffusion& chain, const ImageSpec& spec, std::uint64_t seed,
                   std::int64_t capacity, TeacherClip clip)
    : chain_(&chain),
      spec_(spec),
      seed_(seed),
      capacity_(capacity),
      clip_(clip),
      x_(at::empty({capacity, spec.channels, spec.size, spec.size}, at::kFloat,
                   at::MemoryFormat::ChannelsLast)),
      s_(at::zeros({capacity}, at::kLong)),
      end_(at::zeros({capacity}, at::kLong)),
      restarts_(at::zeros({capacity}, at::kLong)) {}

void BatchSet::fill(const at::Tensor& x, const at::Tensor& states, const at::Tensor& ends) {
  rows_ = x.size(0);
  x_.narrow(0, 0, rows_).copy_(x);
  s_.narrow(0, 0, rows_).copy_(states);
  if (ends.defined()) end_.narrow(0, 0, rows_).copy_(ends);
}

void BatchSet::fill_with_noise(std::int64_t n, const at::Tensor& ends) {
  const at::Tensor x = Random(seed_, Stream::pool_start)
                           .normal(0, 0, n, {spec_.channels, spec_.size, spec_.size});
  fill(x, at::full({n}, chain_->num_steps(), at::kLong), ends);
}

TrainBatch BatchSet::advance(Denoiser& teacher, const at::Tensor& drawn, std::int64_t step) {
  const std::vector<std::int64_t> shape{spec_.channels, spec_.size, spec_.size};
  const std::int64_t count = drawn.size(0);

  // Restart the drawn rows whose pass is over.
  const Random start(seed_, Stream::pool_start);
  const at::Tensor over =
      drawn.masked_select(s_.index_select(0, drawn) == end_.index_select(0, drawn));
  for (std::int64_t i = 0; i < over.size(0); ++i) {
    const auto row = over[i].item<std::int64_t>();
    const std::int64_t restarts = restarts_[row].item<std::int64_t>() + 1;
    x_.narrow(0, row, 1).copy_(start.normal(static_cast<std::uint32_t>(restarts), row, 1, shape));
    s_[row] = chain_->num_steps();
    end_[row] = 0;
    restarts_[row] = restarts;
  }

  // One teacher step gives both the student's targets and the rows' next states.
  TrainBatch batch;
  batch.x_t = x_.index_select(0, drawn).contiguous(at::MemoryFormat::ChannelsLast);
  batch.t = s_.index_select(0, drawn) - 1;
  const at::Tensor z = Random(seed_, Stream::pool_noise)
                           .normal(static_cast<std::uint32_t>(step), kTrainingNoise, count, shape);
  const TeacherStep next = teacher_step(teacher, *chain_, batch.x_t, batch.t, z, clip_);
  batch.teacher = next.p;
  batch.x_prev = next.x_prev;

  // Grow the set with the first results, write the others back.
  const std::int64_t grown = std::min(capacity_ - rows_, count);
  if (grown > 0) {
    x_.narrow(0, rows_, grown).copy_(next.x_prev.narrow(0, 0, grown));
    s_.narrow(0, rows_, grown).copy_(batch.t.narrow(0, 0, grown));
    rows_ += grown;
  }
  if (grown < count) {
    const at::Tensor replaced = drawn.narrow(0, grown, count - grown);
    x_.index_copy_(0, replaced, next.x_prev.narrow(0, grown, count - grown));
    s_.index_copy_(0, replaced, batch.t.narrow(0, grown, count - grown));
  }
  return batch;
}

TensorMap BatchSet::state() const {
  if (rows_ == 0) return {};
  return {{"x", x_.narrow(0, 0, rows_).contiguous().clone()},
          {"state", s_.narrow(0, 0, rows_).clone()},
          {"end", end_.narrow(0, 0, rows_).clone()},
          {"restarts", restarts_.narrow(0, 0, rows_).clone()}};
}

void BatchSet::restore(const TensorMap& state) {
  rows_ = 0;
  if (state.count("x") == 0) return;  // saved before the first batch
  if (state.at("x").sizes().slice(1) != x_.sizes().slice(1) || state.at("x").size(0) > capacity_) {
    throw ConfigError("the saved batch set has another shape than this run's");
  }
  fill(state.at("x"), state.at("state"), state.at("end"));
  restarts_.narrow(0, 0, rows_).copy_(state.at("restarts"));
}

Distillation::Distillation(const Params& params)
    : respacing_(params.text("chain")),
      student_clip_(params.flag("student_clip")),
      decode_(params.text("t0_term") == "decoder"),
      upfront_(value_or<std::string>(params, "prepare", "") == "upfront"),
      lambda_(params.real("lambda")),
      walk_{clip_named(params.text("teacher_clip")),
            value_or<std::string>(params, "first_states", "") == "all" ? FirstStates::all
                                                                       : FirstStates::inner},
      teacher_batch_(value_or<std::int64_t>(params, "teacher_batch", 0)) {}

ParamTable Distillation::chain_params() {
  return {text("chain", "", "respacing of the chain that the teacher walks and the student learns, "
                            "as \"50\" or \"ddim25\" (empty = every step)"),
          flag("student_clip", false, "clip the student's predicted image in the KL term as the "
                                      "teacher's is (false = the authors' code)"),
          real("lambda", 1.0, "weight of the KL term, in bits per dimension and step (a respaced "
                              "chain's rescaled loss is its steps / all steps)")
              .at_least(0),
          text("teacher_clip", "both", "where the teacher's predicted image is clipped: in its steps "
                                       "and in the KL term (both, the authors' code), in its steps "
                                       "alone (chain), or nowhere (none, the paper)")
              .one_of({"both", "chain", "none"}),
          text("t0_term", "kl", "second term at t = 0: the KL of every other step (kl, the authors' "
                                "code), or the likelihood of the teacher's image (decoder)")
              .one_of({"kl", "decoder"})};
}

ParamTable Distillation::preparation_params() {
  return {text("prepare", "upfront", "random states before training (upfront), or no preparation "
                                     "and a spread that builds up in training (streaming)")
              .one_of({"upfront", "streaming"}),
          integer("teacher_batch", 0, "rows that the preparation denoises together (0 = the "
                                      "training batch)")
              .at_least(0),
          text("first_states", "inner", "states that rows are first denoised to, uniform on 1 … T-1 "
                                        "(inner, the authors' code) or on 1 … T (all, the paper)")
              .one_of({"inner", "all"})};
}

std::int64_t Distillation::set_size(std::int64_t, std::int64_t batch) const { return batch; }

Needs Distillation::needs() const {
  Needs needs;
  needs.teacher = true;
  needs.preparation = upfront_;
  return needs;
}

void Distillation::prepare(const MethodContext& context, const std::filesystem::path& dir) {
  const GaussianDiffusion chain =
      chain_of(context, respacing_, context.teacher->diffusion.variance_range);
  prepare_pool(context, chain, set_size(chain.num_steps(), context.batch),
               teacher_batch_ > 0 ? teacher_batch_ : context.batch, dir, walk_);
}

std::int64_t Distillation::preparation_evaluations(const DiffusionConfig& diffusion,
                                                   std::int64_t batch) const {
  if (!upfront_) return 0;
  const std::string& respacing = respacing_.empty() ? diffusion.respacing : respacing_;
  const auto steps =
      static_cast<std::int64_t>(respaced_steps(diffusion.steps, respacing).size());
  return set_size(steps, batch) * steps / 2;
}

void Distillation::start(const MethodContext& context, const std::filesystem::path& prepared) {
  host_ = &context.host;
  spec_ = context.spec;
  batch_ = context.batch;
  seed_ = context.seed;
  teacher_ = context.teacher->network;
  chain_.emplace(chain_of(context, respacing_, context.diffusion.variance_range));
  teacher_chain_.emplace(chain_of(context, respacing_, context.teacher->diffusion.variance_range));
  const std::int64_t rows = set_size(chain_->num_steps(), batch_);
  set_.emplace(*teacher_chain_, spec_, seed_, rows, walk_.clip);
  evaluations_ = 0;
  if (prepared.empty()) return;

  const std::filesystem::path file = prepared / "pool.safetensors";
  const TensorMap pool = io::load_tensors(file);
  const std::vector<std::int64_t> expected{rows, spec_.channels, spec_.size, spec_.size};
  if (pool.count("x") == 0 || pool.count("state") == 0 || pool.at("x").sizes() != expected) {
    throw DataError(file.string(), "is not a batch set of " + std::to_string(rows) +
                                       " rows of this run's images");
  }
  set_->fill(pool.at("x"), pool.at("state"));
}

void Distillation::begin_shuffled() {
  const at::Tensor rows = at::arange(batch_, at::kLong);
  const at::Tensor states = first_states();
  const auto total = (chain_->num_steps() - states).sum().item<std::int64_t>();
  std::int64_t done = 0;
  const auto count_forwards = [&](std::int64_t count) {
    done += count;
    host_->progress("teacher steps", done, total);
  };
  const at::Tensor x = shuffle_denoise(*teacher_, *teacher_chain_, spec_, seed_, rows, states,
                                       count_forwards, walk_.clip);
  evaluations_ += done;
  set_->fill(x, states);
}

at::Tensor Distillation::first_states() const {
  return random_states(seed_, batch_, chain_->num_steps(), walk_.first_states);
}

TrainBatch Distillation::next(std::int64_t step) {
  if (set_->rows() == 0) begin();
  evaluations_ += batch_;
  return set_->advance(*teacher_, draw(step), step);
}

LossTerms Distillation::loss(const TrainBatch& batch, const at::Tensor& output) const {
  return distillation_loss(*chain_, output, batch.x_t, batch.t, batch.teacher, student_clip_,
                           lambda_, decode_ ? batch.x_prev : at::Tensor());
}

ParamTable joined(std::initializer_list<ParamTable> tables) {
  ParamTable all;
  for (const ParamTable& table : tables) all.insert(all.end(), table.begin(), table.end());
  return all;
}

}  // namespace dkdm
