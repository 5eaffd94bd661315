// What a stage will cost, in seconds on this machine.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "plugin/registry.hpp"

namespace dkdm::run {

// Seconds of one image's forward through `network`, which is in evaluation mode; `parameters`: how
// many it has.
double measured_forward_s(Denoiser& network, const SampleShape& shape, std::int64_t parameters);

// Seconds of one image's forward, measured once a network with untrained weights; parameter counts.
class DKDM_API CostModel {
 public:
  explicit CostModel(const plugin::Registry& registry) : registry_(registry) {}

  double forward_s(const plugin::PluginChoice& student, const StudentContext& context);
  std::int64_t parameters(const plugin::PluginChoice& student, const StudentContext& context);
  // Without its memory; throws ConfigError for a network that cannot fit this machine.
  NetworkSize size(const plugin::PluginChoice& student, const StudentContext& context);

 private:
  struct Measured {
    NetworkSize size;
    double forward_s = -1;
  };
  Measured& entry(const plugin::PluginChoice& student, const StudentContext& context);

  const plugin::Registry& registry_;
  std::map<std::string, Measured> measured_;
};

}  // namespace dkdm::run
