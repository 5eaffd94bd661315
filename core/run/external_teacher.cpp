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
  const auto teacher = context_.registry.teacher(choice_, context_.host);
  const auto* states = dynamic_cast<const StatesWeights*>(teacher.get());
  const std::string own = states ? states->weights() : "";
  return own.empty() ? record::kUnlabelled : own;
}

const TrainedModel& ExternalTeacher::model() {
  if (!model_) model_ = context_.registry.teacher(choice_, context_.host)->load();
  return *model_;
}

std::int64_t ExternalTeacher::parameters() { return model::count_parameters(*model().network); }

double ExternalTeacher::forward_s(const CostModel& cost) {
  if (forward_s_ < 0) forward_s_ = cost.forward_s(*model().network, model().shape, parameters());
  return forward_s_;
}

}  // namespace dkdm::run
