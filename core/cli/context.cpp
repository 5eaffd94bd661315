// Paths from the environment and from where the program lies.
#include "cli/context.hpp"

#include <cstdlib>

namespace dkdm::cli {

namespace fs = std::filesystem;

namespace {

// A variable that is set to nothing counts as not set.
fs::path path_from(const char* variable, const fs::path& otherwise) {
  const char* value = std::getenv(variable);
  return fs::absolute(value && *value ? fs::path(value) : otherwise).lexically_normal();
}

}  // namespace

Context::Context()
    : home_(path_from("DKDM_HOME", ".dkdm")),
      experiments_(path_from("DKDM_EXPERIMENTS", fs::path(DKDM_SOURCE_DIR) / "experiments")),
      program_folder_(fs::read_symlink("/proc/self/exe").parent_path()) {}

fs::path Context::recorded_database() const {
  if (!fs::exists(database()))
    throw Error("no results yet: " + database().string() +
                    " does not exist; dkdm quickstart or dkdm run makes it (DKDM_HOME says where)",
                ExitCode::missing);
  return database();
}

const plugin::Registry& Context::registry() {
  if (!registry_) registry_ = std::make_unique<plugin::Registry>(plugin_folders());
  return *registry_;
}

}  // namespace dkdm::cli
