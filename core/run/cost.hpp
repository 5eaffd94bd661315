// What a stage will cost, in seconds on this machine, or on one whose rate is stated.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "plugin/registry.hpp"
#include "run/activations.hpp"

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
  // Of activations: as forwards on this machine allocate them where networks compute on its CPU and
  // they take at most half of its memory; else as counted on LibTorch's meta device. NaN where the
  // network does not run there.
  Activations activations(const plugin::PluginChoice& student, const StudentContext& context,
                          Pass pass, device::Precision precision);
  // In evaluation, of a network that is there already.
  Activations activations(Denoiser& network, const SampleShape& shape, std::int64_t parameters,
                          device::Precision precision) const;
  // Without its memory; throws ConfigError for a network that cannot fit this machine.
  NetworkSize size(const plugin::PluginChoice& student, const StudentContext& context);

 private:
  struct Measured {
    NetworkSize size;
    double forward_s = -1;
    std::map<std::pair<Pass, device::Precision>, Activations> activations{};
  };
  Measured& entry(const plugin::PluginChoice& student, const StudentContext& context);

  const plugin::Registry& registry_;
  const double tflops_;
  at::Device device_ = at::kCPU;
  std::map<std::string, Measured> measured_;
};

}  // namespace dkdm::run
