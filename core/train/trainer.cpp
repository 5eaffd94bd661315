#include "train/trainer.hpp"

#include <cmath>
#include <optional>
#include <utility>

#include "device/precision.hpp"
#include "dkdm/device.hpp"
#include "dkdm/diffusion.hpp"
#include "dkdm/features.hpp"
#include "dkdm/io.hpp"
#include "dkdm/nn.hpp"
#include "dkdm/optimizer.hpp"
#include "error_text.hpp"
#include "io/checkpoint/work_file.hpp"
#include "plugin/call.hpp"
#include "record/clock.hpp"
#include "train/recorded_network.hpp"

namespace dkdm::train {
namespace {

constexpr std::uint64_t kPartSeed = 0x6d6574686f64;  // "method"

// Of an accelerator's results: looking at them makes the host wait until it has done all that it
// was handed. On the CPU they are there.
constexpr std::int64_t kLookEvery = 16;  // steps

using record::Clock;
using record::seconds_since;

// What a step gave, on the device.
struct StepResult {
  std::int64_t step = 0;
  at::Tensor values;  // [5]: loss, mse, vb, grad_norm, log2 of the loss scale (0: there is none)
  bool logged = false;
  double step_seconds = 0;
};

TrainedPart moved(TrainedPart part, at::Device device) {
  if (part.network) part.network->to(device);
  return part;
}

class Loop {
 public:
  Loop(Denoiser& student, Method& method, Host& host, const Params& settings, std::uint64_t seed,
       const std::filesystem::path& folder,
       const std::function<void(const std::vector<record::CurvePoint>&)>& record,
       const SnapshotPolicy& kept, const std::string& hint,
       const std::function<TeacherWork()>& teacher)
      : student_(student), method_(method), host_(host), settings_(settings), seed_(seed),
        folder_(folder), record_(record), kept_(kept), hint_(hint), counted_(teacher),
        device_(device_of(student)),
        precision_(device::precision_named(settings.text("precision"))),
        look_every_(device_.is_cpu() ? 1 : kLookEvery),
        part_(moved(method.trained_part(), device_)), optimizer_(student, settings, part_),
        steps_(settings.integer("steps")), log_every_(settings.integer("log_every")) {
    if (settings.flag("graphs")) {
      recorded_.emplace(
          student_, precision_, method.student_features(), seed_,
          [&](const std::string& text) { host_.log("train", "the student " + text); });
    } else if (const auto names = method.student_features(); !names.empty()) {
      features_.emplace(student_, names);
    }
  }

  TrainResult run() {
    continue_from_checkpoint();
    student_.train();
    if (part_.network) part_.network->train();
    start_ = mark_ = saved_ = Clock::now();
    for (; step_ < steps_; ++step_) {
      stop_here_if_asked();
      learn_one_batch_named();
      if (kept_.every > 0 && (step_ + 1) % kept_.every == 0 && step_ + 1 < steps_) {
        look();
        kept_.keep(step_ + 1, optimizer_.weights(kept_.weights == "ema"));
      }
      if (step_ + 1 < steps_ && is_due(step_ + 1)) save_checkpoint(step_ + 1);
    }
    host_.progress("steps", steps_, steps_);
    look();
    flush_curves();
    return finish();
  }

 private:
  // The last checkpoint, and the one before it, for when the last is damaged.
  std::filesystem::path checkpoint_file() const { return folder_ / "checkpoint.safetensors"; }
  std::filesystem::path earlier_file() const { return folder_ / "earlier-checkpoint.safetensors"; }

  void continue_from_checkpoint() {
    for (const auto& file : {checkpoint_file(), earlier_file()}) {
      if (!std::filesystem::exists(file)) continue;
      try {
        take_over(io::load_work(file));
        host_.log("train", "continuing from step " + std::to_string(step_));
        return;
      } catch (const DataError& error) {
        const bool last = file == earlier_file() || !std::filesystem::exists(earlier_file());
        host_.log("train", io::set_aside(file, error.what()) +
                               (last ? "; starting from step 0" : "; trying the one before it"));
      }
    }
  }

  // A file that is what was written and does not fit all the same is of another program or plugin:
  // throws Error that says so. Nothing has been changed where DataError is thrown.
  void take_over(const io::Work& work) {
    TensorMap weights, method;
    const std::string prefix = "method/";
    for (const auto& [name, tensor] : work.tensors) {
      if (name.starts_with(prefix)) method[name.substr(prefix.size())] = tensor;
      else weights[name] = tensor;
    }
    const auto step = work.integer("step");
    if (step < 0 || step > steps_)
      throw DataError(work.file.string(), "is of step " + std::to_string(step) +
                                              ", expected 0 to " + std::to_string(steps_));
    const auto elapsed = work.real("elapsed_s");
    // Checkpoints of before every step need not have as many lack it.
    const auto examples = work.facts.contains("examples") ? work.integer("examples")
                                                          : step * settings_.integer("batch");
    TeacherWork teacher{work.integer("teacher_evaluations")};
    // Checkpoints of before it was measured lack it.
    if (work.facts.contains("teacher_s")) teacher.seconds = work.real("teacher_s");
    try {
      optimizer_.restore(weights, work.file.string());
      method_.restore(method);
    } catch (const std::exception& error) {
      throw Error(work.file.string() + ": does not fit this training: " + error_text(error) +
                  "; remove the file, and the training starts from step 0");
    }
    step_ = step;
    examples_ = examples;
    noted_until_ = step;
    elapsed_before_ = elapsed;
    teacher_before_ = teacher;
  }

  // By steps or by the clock, whichever comes first: large networks take hours for what small ones
  // do in a minute.
  bool is_due(std::int64_t next_step) const {
    return next_step % settings_.integer("checkpoint_every") == 0 ||
           seconds_since(saved_) >= 60 * settings_.real("checkpoint_minutes");
  }

  void save_checkpoint(std::int64_t next_step) {
    look();
    flush_curves();
    TensorMap all = optimizer_.state();
    for (const auto& [name, tensor] : method_.state()) all["method/" + name] = tensor;
    std::error_code none_yet;
    std::filesystem::rename(checkpoint_file(), earlier_file(), none_yet);
    const TeacherWork teacher = this->teacher();
    io::save_work(checkpoint_file(), all,
                  {{"step", std::to_string(next_step)},
                   {"examples", std::to_string(examples_)},
                   {"elapsed_s", std::to_string(elapsed_s())},
                   {"teacher_evaluations", std::to_string(teacher.evaluations)},
                   {"teacher_s", std::to_string(teacher.seconds)}});
    saved_ = Clock::now();
  }

  // Between two steps everything is consistent: the only place where the loop may be left.
  void stop_here_if_asked() {
    try {
      host_.progress("steps", step_, steps_);
    } catch (const Interrupted&) {
      save_checkpoint(step_);
      throw;
    }
  }

  // What a plugin did wrong is known better with the step that it did it at.
  void learn_one_batch_named() {
    try {
      learn_one_batch();
    } catch (const PluginError& error) {
      look();
      flush_curves();
      throw Error("step " + std::to_string(step_) + ": " + error.what(), error.exit_code());
    }
  }

  void learn_one_batch() {
    TrainBatch batch = method_.next(step_);
    nn::seed_layers(student_, seed_, step_);
    // Another seed: its layers are numbered from 0 as the student's are.
    if (part_.network) nn::seed_layers(*part_.network, seed_ ^ kPartSeed, step_);
    at::AutoGradMode with_grad(true);
    const at::Tensor output = forward(batch);
    const LossTerms terms = method_.loss(batch, output);
    if (!terms.loss.defined() || !terms.loss.requires_grad())
      throw PluginError(plugin::name_of(&method_), "loss",
                        "gives no gradient: neither it nor the student's output depends on weights "
                        "that are trained",
                        ExitCode::run_failed);
    const at::Tensor loss = terms.loss.mean();
    {
      const device::PrecisionScope scope(device::backward_of(precision_), device_);
      optimizer_.scaled(loss).backward();
    }
    if (recorded_) recorded_->backward();
    const at::Tensor norm = optimizer_.grad_norm();
    note(loss, terms, norm);
    if ((step_ + 1) % look_every_ == 0) look();
    optimizer_.step(step_, norm);
    examples_ += batch.x_t.size(0);
  }

  // The student's output, and the features that the method asked for.
  at::Tensor forward(TrainBatch& batch) {
    const at::Tensor t = method_.diffusion().model_timesteps(batch.t);
    if (recorded_) {
      Forward made = recorded_->forward(batch.x_t, t, step_);
      batch.features = std::move(made.features);
      return made.output;
    }
    const device::PrecisionScope scope(precision_, device_);
    const at::Tensor output = plugin::predict(student_, batch.x_t, t);
    if (features_) batch.features = features_->take();
    return output;
  }

  void note(const at::Tensor& loss, const LossTerms& terms, const at::Tensor& norm) {
    StepResult result;
    result.step = step_;
    const at::Tensor& scale = optimizer_.log2_loss_scale();
    const at::NoGradGuard no_grad;  // kept for some steps, it would keep the network's graph
    result.values =
        at::stack({loss.detach(), terms.mse.mean(), terms.vb.mean(), norm,
                   scale.defined() ? scale.to(norm.scalar_type()) : at::zeros_like(norm)});
    result.logged = (step_ + 1) % log_every_ == 0 || step_ == 0;
    if (result.logged) {
      const auto steps = step_ + 1 - noted_until_;
      result.step_seconds = seconds_since(mark_) / double(std::max<std::int64_t>(1, steps));
      mark_ = Clock::now();
      noted_until_ = step_ + 1;
    }
    unread_.push_back(std::move(result));
  }

  // At the results of the steps since the last look. Throws Error for the first that is not finite;
  // nothing that came of it has been saved.
  void look() {
    if (unread_.empty()) return;
    std::vector<at::Tensor> values;
    for (const StepResult& result : unread_) values.push_back(result.values);
    const at::Tensor all = at::stack(values).to(at::kCPU).to(at::kDouble);
    const double* of_step = all.const_data_ptr<double>();
    for (const StepResult& result : std::exchange(unread_, {})) {
      const double loss = of_step[0], mse = of_step[1], vb = of_step[2], norm = of_step[3];
      const bool finite = std::isfinite(loss) && std::isfinite(norm);
      if (scales()) refuse_lost_scale(result.step, of_step[4]);
      else if (!finite) fail_at(result.step, mse, vb);
      if (result.logged && finite) add_to_curves(result, loss, mse, vb, norm, of_step[4]);
      of_step += all.size(1);
    }
  }

  bool scales() const { return optimizer_.log2_loss_scale().defined(); }

  // In fp16 an overflow skips a step. With nothing left to lower they do not end.
  void refuse_lost_scale(std::int64_t step, double log2_scale) {
    if (log2_scale >= 0) return;
    flush_curves();
    throw Error("fp16 overflows at step " + std::to_string(step) +
                " even without a loss scale: its values reach beyond 65504; precision = \"bf16\" "
                "has the range of fp32");
  }

  [[noreturn]] void fail_at(std::int64_t step, double mse, double vb) {
    flush_curves();
    throw Error("loss or gradient is not finite at step " + std::to_string(step) + " (mse " +
                std::to_string(mse) + ", vb " + std::to_string(vb) + " bits/dim); " +
                divergence_advice(settings_, std::filesystem::exists(checkpoint_file()), hint_));
  }

  void add_to_curves(const StepResult& result, double loss, double mse, double vb, double norm,
                     double log2_scale) {
    const auto add = [&](const char* name, double value) {
      curves_.push_back({name, result.step + 1, value});
    };
    add("loss", loss);
    add("mse", mse);
    add("vb", vb);
    add("grad_norm", norm);
    add("lr", learning_rate(settings_, result.step));
    if (scales()) add("log2_loss_scale", log2_scale);
    add("step_seconds", result.step_seconds);
    // Somebody may be watching, and a process that is killed leaves its curve. A point that is made
    // again after a kill is the same.
    constexpr double kKept_s = 10;
    if (seconds_since(flushed_) >= kKept_s) flush_curves();
  }

  void flush_curves() {
    if (!curves_.empty()) record_(curves_);
    curves_.clear();
    flushed_ = Clock::now();
  }

  TrainResult finish() {
    io::save_tensors(folder_ / "raw.safetensors", optimizer_.weights(false));
    io::save_tensors(folder_ / "ema.safetensors", optimizer_.weights(true));
    if (part_.network) io::save_tensors(folder_ / kPartFile, optimizer_.part_weights());
    for (const auto& file : {checkpoint_file(), earlier_file()}) std::filesystem::remove(file);
    return {steps_, examples_, elapsed_s(), teacher(), recorded_ ? recorded_->outcome() : ""};
  }

  double elapsed_s() const { return elapsed_before_ + seconds_since(start_); }
  TeacherWork teacher() const {
    TeacherWork work = counted_ ? counted_() : TeacherWork{};
    work.evaluations += teacher_before_.evaluations;
    work.seconds += teacher_before_.seconds;
    return work;
  }

  Denoiser& student_;
  Method& method_;
  Host& host_;
  const Params& settings_;
  const std::uint64_t seed_;
  const std::filesystem::path folder_;
  const std::function<void(const std::vector<record::CurvePoint>&)>& record_;
  const SnapshotPolicy& kept_;
  const std::string& hint_;
  const std::function<TeacherWork()>& counted_;
  const at::Device device_;
  const device::Precision precision_;
  const std::int64_t look_every_;
  const TrainedPart part_;
  std::optional<Features> features_;         // unless recorded_ has them
  std::optional<RecordedStudent> recorded_;  // [train] graphs
  Optimizer optimizer_;
  const std::int64_t steps_, log_every_;

  std::int64_t step_ = 0, examples_ = 0, noted_until_ = 0;
  double elapsed_before_ = 0;
  TeacherWork teacher_before_;
  Clock::time_point start_ = Clock::now(), mark_ = start_, saved_ = start_, flushed_{};
  std::vector<StepResult> unread_;
  std::vector<record::CurvePoint> curves_;
};

}  // namespace

std::string divergence_advice(const Params& settings, bool has_checkpoint,
                              const std::string& hint) {
  const double lr = settings.real("lr"), clip = settings.real("grad_clip");
  std::string text = has_checkpoint ? "the last checkpoint is kept" : "no checkpoint was made yet";
  text += ". What usually helps: a lower lr (now " + to_text(Value(lr)) + ")";
  text += clip == 0 ? ", grad_clip = 1.0 (now off)"
                    : ", a lower grad_clip (now " + to_text(Value(clip)) + ")";
  return text + (hint.empty() ? "" : ", " + hint);
}

TrainResult train(Denoiser& student, Method& method, Host& host, const Params& settings,
                  std::uint64_t seed, const std::filesystem::path& folder,
                  const std::function<void(const std::vector<record::CurvePoint>&)>& record,
                  const SnapshotPolicy& kept, const std::string& hint,
                  const std::function<TeacherWork()>& teacher) {
  return Loop(student, method, host, settings, seed, folder, record, kept, hint, teacher).run();
}

}  // namespace dkdm::train
