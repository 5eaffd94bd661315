// What the host offers to a plugin. Threads: that in which the host called the plugin.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "dkdm/denoiser.hpp"
#include "dkdm/diffusion_types.hpp"
#include "dkdm/params.hpp"

namespace dkdm {

// A network read from disk together with what it was trained for.
struct TrainedModel {
  std::shared_ptr<Denoiser> network;  // evaluation mode, no gradient
  DiffusionConfig diffusion;
  SampleShape shape;
};

class DKDM_API Host {
 public:
  virtual ~Host();

  // One line to the log, component first.
  virtual void log(const std::string& component, const std::string& line) = 0;
  // How far long work is: "images", 128 of 512. Call it often: there Ctrl-C throws Interrupted.
  virtual void progress(const std::string& unit, std::int64_t done, std::int64_t total) = 0;
  // A model folder that this suite trained: weights "ema" or "raw". Throws DataError.
  virtual TrainedModel load_model(const std::filesystem::path& folder,
                                  const std::string& weights) = 0;
  // The student plugin `name` for `context`, built and with initial weights: evaluation mode,
  // no gradient, convolutions in channels-last memory. `values` overrides its defaults. Throws
  // ConfigError for an unknown name or parameter, PluginError for a network that cannot be.
  virtual std::shared_ptr<Denoiser> student(const std::string& name,
                                            const std::map<std::string, Value>& values,
                                            const StudentContext& context) = 0;
  // Where networks compute (dkdm/device.hpp). What a plugin is given to compute with is there, what
  // it loads or makes the host moves there; networks and tensors of its own it puts there itself.
  virtual at::Device device() const { return at::kCPU; }
};

}  // namespace dkdm
