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
    : program_folder_(fs::read_symlink("/proc/self/exe").parent_path()),
      home_(path_from("DKDM_HOME", ".dkdm")),
      installed_(!fs::is_directory(program_folder_ / "plugins")) {
  experiments_ = path_from("DKDM_EXPERIMENTS",
                           installed_ ? program_folder_.parent_path() / "share/dkdm/experiments"
                                      : fs::path(DKDM_SOURCE_DIR) / "experiments");
  const char* device = std::getenv("DKDM_DEVICE");
  if (device && *device) asked_device_ = {device, "$DKDM_DEVICE"};
}

std::vector<fs::path> Context::plugin_folders() const {
  return {installed_ ? program_folder_.parent_path() / "lib/dkdm/plugins"
                     : program_folder_ / "plugins"};
}

fs::path Context::package_folder() const {
  return installed_ ? program_folder_.parent_path() : program_folder_ / "cmake";
}

fs::path Context::recorded_database() const {
  if (!fs::exists(database()))
    throw Error("no results yet: " + database().string() +
                    " does not exist; dkdm quickstart or dkdm run makes it (DKDM_HOME says where)",
                ExitCode::missing);
  return database();
}

plugin::Registry& Context::registry() {
  if (!registry_) registry_ = std::make_unique<plugin::Registry>(plugin_folders());
  return *registry_;
}

void Context::add_plugins(const fs::path& path, const std::string& origin,
                          const std::string& where) {
  if (!fs::exists(path))
    throw ConfigError(
        where,
        path.string() + ": no such plugin file or folder; build it first, or correct the path");
  const auto refused = registry().refusals().size();
  registry().add(path, origin);
  // A folder may hold what this person does not need; a file was asked for by name.
  if (path.extension() == ".so" && registry().refusals().size() > refused)
    throw ConfigError(where, registry().refusals().back().reason);
}

void Context::set_device(const std::string& word, bool fast) {
  if (!word.empty()) asked_device_ = {word, "--device"};
  if (!asked_device_.word.empty()) device::check_word(asked_device_);
  fast_ = fast;
}

at::Device Context::device(const device::Asked& of_experiment) {
  const at::Device found =
      device::chosen(asked_device_.word.empty() ? of_experiment : asked_device_);
  if (!found.is_cpu()) device::set_arithmetic(fast_);
  return found;
}

}  // namespace dkdm::cli
