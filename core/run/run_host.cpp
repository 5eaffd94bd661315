#include "run/run_host.hpp"

#include "log/log.hpp"
#include "model/model_folder.hpp"

namespace dkdm::run {

RunHost::RunHost(const plugin::Registry& registry, const std::atomic<bool>& stop,
                 Progress* progress)
    : registry_(registry), stop_(stop), progress_(progress) {}

void RunHost::log(const std::string& component, const std::string& line) {
  if (progress_) progress_->say(component + ": " + line);
  else log::info(component, line);
}

void RunHost::progress(const std::string& unit, std::int64_t done, std::int64_t total) {
  if (stop_.load(std::memory_order_relaxed)) throw Interrupted();
  if (progress_) progress_->update(unit, done, total);
}

TrainedModel RunHost::load_model(const std::filesystem::path& folder, const std::string& weights) {
  auto model = model::load_model(folder, weights, registry_);
  model.network->to(device_);
  return model;
}

std::shared_ptr<Denoiser> RunHost::student(const std::string& name,
                                           const std::map<std::string, Value>& values,
                                           const StudentContext& context) {
  return model::untrained_student(name, values, context, registry_);
}

}  // namespace dkdm::run
