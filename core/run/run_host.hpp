// The host as plugins see it during a run.
#pragma once

#include <atomic>
#include <filesystem>
#include <string>

#include "dkdm/host.hpp"
#include "plugin/registry.hpp"
#include "run/progress.hpp"

namespace dkdm::run {

class DKDM_API RunHost final : public Host {
 public:
  // `stop` is raised by the signal handler; progress() then throws Interrupted. `progress` may be
  // null.
  RunHost(const plugin::Registry& registry, const std::atomic<bool>& stop, Progress* progress);

  void set_progress(Progress* progress) { progress_ = progress; }

  void log(const std::string& component, const std::string& line) override;
  void progress(const std::string& unit, std::int64_t done, std::int64_t total) override;
  TrainedModel load_model(const std::filesystem::path& folder, const std::string& weights) override;
  std::shared_ptr<Denoiser> student(const std::string& name,
                                    const std::map<std::string, Value>& values,
                                    const StudentContext& context) override;
  at::Device device() const override { return device_; }
  void set_device(at::Device device) { device_ = device; }

 private:
  const plugin::Registry& registry_;
  const std::atomic<bool>& stop_;
  Progress* progress_;
  at::Device device_ = at::kCPU;
};

}  // namespace dkdm::run
