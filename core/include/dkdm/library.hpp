// dkdm as a library, for programs of one's own such as docs/examples/distill.cpp:
// find_package(dkdm) and the target dkdm::core. Plugins have no use for it: they are given a Host.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "dkdm/denoiser.hpp"
#include "dkdm/host.hpp"
#include "dkdm/params.hpp"

namespace dkdm {

// The plugins that lie beside libdkdm_core (an installed package's or a build folder's) and those
// that $DKDM_PLUGIN_PATH names, and the networks that they make. Networks may outlive it. Log lines
// go to stderr (DKDM_LOG sets their level). Threads: the constructor opens every module in a forked
// child first, so make it before other threads start; call its functions from one thread at a time.
class DKDM_API Library {
 public:
  Library();
  ~Library();
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  // The model folder of a finished training stage ($DKDM_HOME/artifacts/train/KEY), weights "ema"
  // or "raw": evaluation mode, no gradient. Throws DataError naming the file and what is wrong with
  // it, ConfigError for a student plugin that is not loaded.
  TrainedModel load_model(const std::filesystem::path& folder, const std::string& weights) const;

  // The student plugin `name` with initial weights from `seed`: training mode, convolutions in
  // channels-last memory. `values` overrides its parameters' defaults. Throws as Host::student
  // does.
  std::shared_ptr<Denoiser> student(const std::string& name,
                                    const std::map<std::string, Value>& values,
                                    const StudentContext& context, std::uint64_t seed) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Section [train] of an experiment file: `given` over the defaults, checked. `steps` is required.
// Throws ConfigError as an experiment file would.
DKDM_API Params train_settings(const std::map<std::string, Value>& given);

// The seed that the host derives from a run's seed for one use: "initialise" (a student's weights),
// "method" (everything that a method draws), "dropout" (a network's layers in training), "sample".
DKDM_API std::uint64_t seed_for(std::int64_t run_seed, const std::string& use);

}  // namespace dkdm
