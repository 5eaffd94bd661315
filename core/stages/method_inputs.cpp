#include "stages/method_inputs.hpp"

#include "device/choice.hpp"
#include "device/precision.hpp"
#include "device/stopwatch.hpp"
#include "dkdm/device.hpp"
#include "model/flops.hpp"
#include "plugin/call.hpp"
#include "train/recorded_network.hpp"

namespace dkdm::stages {

class CountedTeacher final : public Denoiser {
 public:
  // `said` is defined where its passes are to be recorded ([train] graphs), and gets what a person
  // should know of that.
  CountedTeacher(std::shared_ptr<Denoiser> network, device::Precision precision,
                 const std::function<void(const std::string&)>& said)
      : network_(register_module("network", std::move(network))), device_(device_of(*network_)),
        precision_(precision), watch_(device_) {
    train(network_->is_training());
    if (said) recorded_.emplace(*network_, precision_, said);
  }
  at::Tensor forward(const at::Tensor& x_t, const at::Tensor& t) override {
    watch_.begin();
    // Whoever listens for whatever there is does so once.
    const bool for_all = is_listened_to() && features_asked().empty();
    const at::Tensor output = recorded_ && !for_all ? recorded(x_t, t) : direct(x_t, t);
    watch_.end();
    evaluations_ += x_t.size(0);
    return output;
  }
  train::TeacherWork work() { return {evaluations_, watch_.seconds()}; }
  Denoiser& network() const { return *network_; }
  std::string graphs() const { return recorded_ ? recorded_->outcome() : ""; }

 private:
  at::Tensor direct(const at::Tensor& x_t, const at::Tensor& t) {
    const device::PrecisionScope scope(precision_, device_);
    return plugin::predict(*network_, x_t, t);
  }
  at::Tensor recorded(const at::Tensor& x_t, const at::Tensor& t) {
    train::Forward made = recorded_->forward(x_t, t, features_asked());
    for (const auto& [name, activation] : made.features) feature(name.c_str(), activation);
    return made.output;
  }

  std::shared_ptr<Denoiser> network_;
  at::Device device_;
  device::Precision precision_;
  device::Stopwatch watch_;
  std::optional<train::RecordedTeacher> recorded_;
  std::int64_t evaluations_ = 0;
};

bool keeps_on_host(const Params& train, double held, at::Device device) {
  const auto& pool = train.text("pool");
  if (device.is_cpu() || pool == "device") return false;
  if (pool == "host") return true;
  constexpr double kMost = 0.5;
  const auto memory = static_cast<double>(device::describe(device).memory_bytes);
  return memory > 0 && held > kMost * memory;
}

MethodInputs::MethodInputs(StageContext& context, const TrainingJob& job,
                           const TrainingInputs& inputs, const Method& method, bool graphs)
    : context_(context), job_(job) {
  const Needs needs = method.needs();
  if (needs.teacher) {
    teacher_ = inputs.teacher.value().load(context);
    std::function<void(const std::string&)> said;
    if (graphs)
      said = [&host = context.host](const std::string& text) {
        host.log("train", "the teacher " + text);
      };
    counted_ = std::make_shared<CountedTeacher>(
        teacher_->network, device::precision_named(config::teacher_precision(job.training.train)),
        said);
    teacher_->network = counted_;
  }
  if (needs.synthetic) synthetic_ = open_samples(inputs.synthetic.folder);
  if (needs.dataset) dataset_ = inputs.dataset.images;
}

MethodContext MethodInputs::context() const {
  return {context_.host,
          job_.diffusion,
          job_.shape,
          job_.training.train.integer("batch"),
          record::derive_seed(job_.seed, "method"),
          teacher_ ? &*teacher_ : nullptr,
          dataset_.get(),
          synthetic_.get(),
          nullptr};
}

train::TeacherWork MethodInputs::work() const {
  return counted_ ? counted_->work() : train::TeacherWork{};
}

std::string MethodInputs::teacher_graphs() const { return counted_ ? counted_->graphs() : ""; }

double MethodInputs::teacher_flops(std::int64_t evaluations) const {
  if (!teacher_) return 0;
  return double(evaluations) * double(model::forward_flops(counted_->network(), teacher_->shape));
}

}  // namespace dkdm::stages
