// dkdm as a library (dkdm/library.hpp): the host's own parts, without experiments and records.
#include "dkdm/library.hpp"

#include <dlfcn.h>

#include <cstdlib>

#include "config/experiment.hpp"
#include "log/log.hpp"
#include "model/model_folder.hpp"
#include "plugin/registry.hpp"
#include "record/content_key.hpp"

namespace dkdm {
namespace {

namespace fs = std::filesystem;

// The shipped plugins by where this library lies: PREFIX/lib/dkdm/plugins, or plugins/ of a build
// folder.
fs::path shipped_plugins() {
  Dl_info here{};
  ::dladdr(reinterpret_cast<const void*>(&seed_for), &here);
  const fs::path folder = fs::weakly_canonical(here.dli_fname).parent_path();
  const fs::path installed = folder / "dkdm/plugins";
  return fs::is_directory(installed) ? installed : folder.parent_path() / "plugins";
}

// Log lines go to stderr, as the program's do: what a program prints is its own.
void set_up_log() {
  [[maybe_unused]] static const bool kOnce = [] {
    const char* level = std::getenv("DKDM_LOG");
    log::set_up(level ? level : "info");
    return true;
  }();
}

}  // namespace

struct Library::State {
  plugin::Registry registry{{shipped_plugins()}};
};

Library::Library() {
  set_up_log();
  state_ = std::make_unique<State>();
}
Library::~Library() = default;

TrainedModel Library::load_model(const fs::path& folder, const std::string& weights) const {
  return model::load_model(folder, weights, state_->registry);
}

std::shared_ptr<Denoiser> Library::student(const std::string& name,
                                           const std::map<std::string, Value>& values,
                                           const StudentContext& context,
                                           std::uint64_t seed) const {
  const plugin::PluginInfo& info = state_->registry.find("student", name);
  auto network = state_->registry.student(
      {info.kind, info.name, info.version, Params(info.params, values, name)}, context, seed);
  model::to_channels_last(*network);
  network->train();
  return network;
}

Params train_settings(const std::map<std::string, Value>& given) {
  return Params(config::train_table(), given, "[train]");
}

std::uint64_t seed_for(std::int64_t run_seed, const std::string& use) {
  return record::derive_seed(run_seed, use);
}

}  // namespace dkdm
