// What every command needs: the paths of this installation and of the user's data, and the plugins.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "plugin/registry.hpp"

namespace dkdm::cli {

class Context {
 public:
  // Reads the environment: DKDM_HOME, DKDM_EXPERIMENTS, DKDM_PLUGIN_PATH.
  Context();

  // Root of the user's data, artifacts and database: $DKDM_HOME, else .dkdm below the working
  // folder. Absolute; may not exist yet.
  const std::filesystem::path& home() const { return home_; }
  std::filesystem::path database() const { return home_ / "results.sqlite"; }
  // The database, of which there must be one: a person who has run nothing yet is told so (exit code 3).
  std::filesystem::path recorded_database() const;
  // Experiment files and published values of this installation.
  const std::filesystem::path& experiments() const { return experiments_; }
  // Folder of the running program; plugins lie in its subfolder `plugins`.
  const std::filesystem::path& program_folder() const { return program_folder_; }
  std::vector<std::filesystem::path> plugin_folders() const {
    return {program_folder_ / "plugins"};
  }

  // Loads the plugins at the first call.
  const plugin::Registry& registry();

 private:
  std::filesystem::path home_, experiments_, program_folder_;
  std::unique_ptr<plugin::Registry> registry_;
};

}  // namespace dkdm::cli
