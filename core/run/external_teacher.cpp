#include "run/external_teacher.hpp"

#include <algorithm>

#include "dkdm/files.hpp"
#include "dkdm/weights_files.hpp"
#include "dkdm/weights_kind.hpp"
#include "dkdm/weights_space.hpp"
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

const std::vector<std::filesystem::path>& ExternalTeacher::files() {
  if (!files_) {
    files_.emplace();
    if (announced_.absent.empty()) {
      const auto teacher = context_.registry.teacher(choice_, context_.host);
      if (const auto* states = dynamic_cast<const StatesFiles*>(teacher.get()))
        files_ = states->weight_files();
      draws_latents_ = dynamic_cast<const DrawsLatents*>(teacher.get()) != nullptr;
      std::sort(files_->begin(), files_->end());
    }
  }
  return *files_;
}

bool ExternalTeacher::draws_latents() {
  files();
  return draws_latents_;
}

const std::string& ExternalTeacher::sha256() {
  if (!sha256_.empty() || files().empty()) return sha256_;
  if (files().size() == 1) return sha256_ = io::sha256_file(files().front());
  std::string lines;
  for (const auto& file : files())
    lines += io::sha256_file(file) + "  " + file.filename().string() + "\n";
  return sha256_ = io::sha256(lines);
}

std::string ExternalTeacher::file() {
  return files().empty() ? choice_.name : files().front().string();
}

std::string ExternalTeacher::images() {
  if (files().empty()) return "";
  const auto folder = files().front().parent_path();
  if (!std::filesystem::exists(folder / model::kModelFile)) return "";
  return model::read_model_description(folder, context_.registry).images;
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
