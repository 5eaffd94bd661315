// What every command needs: the paths of this installation and of the user's data, and the plugins.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "device/choice.hpp"
#include "plugin/registry.hpp"

namespace dkdm::cli {

class Context {
 public:
  // Reads the environment: DKDM_HOME, DKDM_EXPERIMENTS, DKDM_PLUGIN_PATH,
  // DKDM_DEVICE.
  Context();

  // Root of the user's data, artifacts and database: $DKDM_HOME, else .dkdm below the working
  // folder. Absolute; may not exist yet.
  const std::filesystem::path& home() const { return home_; }
  std::filesystem::path database() const { return home_ / "results.sqlite"; }
  // The database, of which there must be one: a person who has run nothing yet is told so (exit
  // code 3).
  std::filesystem::path recorded_database() const;
  // Experiment files and published values of this installation.
  const std::filesystem::path& experiments() const { return experiments_; }
  // Where the shipped plugins are.
  std::vector<std::filesystem::path> plugin_folders() const;
  // Where CMake finds the package of this dkdm: the prefix it is installed in, or its build folder.
  std::filesystem::path package_folder() const;

  // Loads the shipped plugins and those of DKDM_PLUGIN_PATH at the first call.
  plugin::Registry& registry();
  // Loads what an experiment or the command line names: a module, or a folder of them. Throws
  // ConfigError(`where`) for what is not there and for a module that is refused.
  void add_plugins(const std::filesystem::path& path, const std::string& origin,
                   const std::string& where);

  // What --device and --fast of this command say; "" = no device was named.
  void set_device(const std::string& word, bool fast);
  // Where networks are to compute: --device, else $DKDM_DEVICE, else `of_experiment`. Throws
  // ConfigError for what is not there. In a process that forks no more (device/choice.hpp).
  at::Device device(const device::Asked& of_experiment = {});

 private:
  std::filesystem::path program_folder_, home_, experiments_;
  bool installed_;  // else the program runs from its build folder
  std::unique_ptr<plugin::Registry> registry_;
  device::Asked asked_device_{"", ""};
  bool fast_ = false;
};

}  // namespace dkdm::cli
