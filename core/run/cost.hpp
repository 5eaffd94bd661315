// What a stage will cost, in seconds on this machine, or on one whose rate is stated.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "plugin/registry.hpp"

namespace dkdm::run {

// Seconds of one image, once a network with untrained weights; parameter counts. Where no rate is
// stated they are measured; else they are the operations of matrix products, convolutions and
// attentions at that rate, which a machine sustains in them (not its peak).
class DKDM_API CostModel {
 public:
  // `tflops`: the rate, in 10^12 floating-point operations a second; 0 = measured here.
  explicit CostModel(const plugin::Registry& registry, double tflops = 0)
      : registry_(registry), tflops_(tflops) {}
  // Where it measures from now on.
  void set_device(at::Device device);

  double forward_s(const plugin::PluginChoice& student, const StudentContext& context);
  // Of a network that is there already, in evaluation mode; `parameters`: how many it has.
  double forward_s(Denoiser& network, const SampleShape& shape, std::int64_t parameters) const;
  // Forward, backward and update of one training example.
  double training_s(const plugin::PluginChoice& student, const StudentContext& context);
  std::int64_t parameters(const plugin::PluginChoice& student, const StudentContext& context);
  // Of activations, of one image in float32, as a call on this machine allocates them: the most at
  // once in a forward, and what a forward in training keeps for the backward.
  double forward_bytes(const plugin::PluginChoice& student, const StudentContext& context);
  double forward_bytes(Denoiser& network, const SampleShape& shape, std::int64_t parameters) const;
  double training_bytes(const plugin::PluginChoice& student, const StudentContext& context);
  // Without its memory; throws ConfigError for a network that cannot fit this machine.
  NetworkSize size(const plugin::PluginChoice& student, const StudentContext& context);

 private:
  struct Measured {
    NetworkSize size;
    double forward_s = -1, forward_bytes = -1, training_bytes = -1;
  };
  Measured& entry(const plugin::PluginChoice& student, const StudentContext& context);
  // With a forward measured; `training`: and one in training.
  Measured& measured(const plugin::PluginChoice& student, const StudentContext& context,
                     bool training);

  const plugin::Registry& registry_;
  const double tflops_;
  at::Device device_ = at::kCPU;
  std::map<std::string, Measured> measured_;
};

}  // namespace dkdm::run
