#include "run/external_teacher.hpp"

#include "dkdm/weights_kind.hpp"
#include "model/model_folder.hpp"

namespace dkdm::run {
const std::string& ExternalTeacher::fingerprint() {
  if (fingerprint_.empty())
    fingerprint_ = context_.registry.teacher(choice_, context_.host)->fingerprint();
  return fingerprint_;
}

std::string ExternalTeacher::weights() const {
  if (!announced_.absent.empty()) return record::kUnlabelled;
  const auto teacher = context_.registry.teacher(choice_, context_.host);
  const auto* states = dynamic_cast<const StatesWeights*>(teacher.get());
  const std::string own = states ? states->weights() : "";
  return own.empty() ? record::kUnlabelled : own;
}

const TrainedModel& ExternalTeacher::model() {
  if (!model_) {
    model_ = context_.registry.teacher(choice_, context_.host)->load();
    model_->network->to(context_.host.device());
  }
  return *model_;
}

std::optional<StudentContext> ExternalTeacher::made_for() {
  if (announced_.absent.empty()) return StudentContext{model().shape, model().diffusion};
  if (!announced_.network) return std::nullopt;
  return announced_.network->context;
}

plugin::PluginChoice ExternalTeacher::student() const {
  const auto& network = announced_.network.value();
  const auto& info = context_.registry.find("student", network.student);
  return {info.kind, info.name, info.version,
          Params(info.params, network.values, "teacher " + choice_.name)};
}

std::int64_t ExternalTeacher::parameters(CostModel& cost) {
  if (announced_.absent.empty()) return model::count_parameters(*model().network);
  return announced_.network ? cost.parameters(student(), announced_.network->context) : 0;
}

double ExternalTeacher::forward_s(CostModel& cost) {
  if (!announced_.absent.empty())
    return announced_.network ? cost.forward_s(student(), announced_.network->context)
                              : kUnknownCost;
  if (forward_s_ < 0)
    forward_s_ = cost.forward_s(*model().network, model().shape, parameters(cost));
  return forward_s_;
}

NetworkBytes ExternalTeacher::bytes(CostModel& cost, device::Precision precision) {
  if (announced_.absent.empty()) {
    const auto count = parameters(cost);
    const double bytes = static_cast<double>(count) * sizeof(float);
    return {bytes, bytes, cost.activations(*model().network, model().shape, count, precision)};
  }
  if (!announced_.network) return kUnknownBytes;
  return bytes_of(student(), announced_.network->context, cost, Pass::evaluation, precision);
}

}  // namespace dkdm::run
