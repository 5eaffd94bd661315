#include "stages/method_inputs.hpp"

#include "device/choice.hpp"
#include "device/precision.hpp"
#include "device/stopwatch.hpp"
#include "dkdm/device.hpp"
#include "model/flops.hpp"
#include "plugin/call.hpp"

namespace dkdm::stages {

class CountedTeacher final : public Denoiser {
 public:
  CountedTeacher(std::shared_ptr<Denoiser> network, device::Precision precision)
      : network_(register_module("network", std::move(network))), device_(device_of(*network_)),
        precision_(precision), watch_(device_) {
    train(network_->is_training());
  }
  at::Tensor forward(const at::Tensor& x_t, const at::Tensor& t) override {
    const device::PrecisionScope scope(precision_, device_);
    watch_.begin();
    const at::Tensor output = plugin::predict(*network_, x_t, t);
    watch_.end();
    evaluations_ += x_t.size(0);
    return output;
  }
  train::TeacherWork work() { return {evaluations_, watch_.seconds()}; }
  Denoiser& network() const { return *network_; }

 private:
  std::shared_ptr<Denoiser> network_;
  at::Device device_;
  device::Precision precision_;
  device::Stopwatch watch_;
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
                           const TrainingInputs& inputs, const Method& method)
    : context_(context), job_(job) {
  const Needs needs = method.needs();
  if (needs.teacher) {
    teacher_ = inputs.teacher.value().load(context);
    counted_ = std::make_shared<CountedTeacher>(
        teacher_->network, device::precision_named(config::teacher_precision(job.training.train)));
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

double MethodInputs::teacher_flops(std::int64_t evaluations) const {
  if (!teacher_) return 0;
  return double(evaluations) * double(model::forward_flops(counted_->network(), teacher_->shape));
}

}  // namespace dkdm::stages
