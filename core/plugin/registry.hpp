// The plugins found in a list of folders, each loaded once, checked by the handshake, never
// unloaded.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "dkdm/dataset.hpp"
#include "dkdm/denoiser.hpp"
#include "dkdm/evaluator.hpp"
#include "dkdm/host.hpp"
#include "dkdm/method.hpp"
#include "dkdm/params.hpp"
#include "dkdm/teacher.hpp"

struct DkdmPluginTable;

namespace dkdm::plugin {

struct PluginInfo {
  std::string kind, name, version, summary;
  ParamTable params;
  std::filesystem::path file;
};

// A module that was found but not taken, and why (one line that names file, values and remedy).
struct Refusal {
  std::filesystem::path file;
  std::string reason;
};

// A plugin chosen in an experiment, its parameters checked and complete.
struct PluginChoice {
  std::string kind, name, version;
  Params params;
};

class DKDM_API Registry {
 public:
  // Loads every *.so of `folders` (and of $DKDM_PLUGIN_PATH, colon-separated) in name order; one
  // that ends with .so is a file itself. A module that fails never stops the others.
  explicit Registry(const std::vector<std::filesystem::path>& folders);

  const std::vector<PluginInfo>& plugins() const { return plugins_; }
  const std::vector<Refusal>& refusals() const { return refusals_; }

  // Throws ConfigError with the nearest name, and with a refusal's reason if that was the cause.
  // `kind` "method" finds baselines and distillations.
  const PluginInfo& find(const std::string& kind, const std::string& name,
                         const std::string& where = "") const;
  // nullptr when absent.
  const PluginInfo* lookup(const std::string& kind, const std::string& name) const;

  // Each throws PluginError naming plugin and message when the constructor throws (with the exit
  // code of a dkdm::Error), Interrupted when it was stopped. `seed` decides a student's initial
  // weights: LibTorch's default CPU generator is seeded with it, and afterwards as it was before.
  std::shared_ptr<Denoiser> student(const PluginChoice& choice, const ImageSpec& spec,
                                    std::uint64_t seed) const;
  std::shared_ptr<Teacher> teacher(const PluginChoice& choice, Host& host) const;
  std::shared_ptr<Dataset> dataset(const PluginChoice& choice, Host& host) const;
  std::shared_ptr<Method> method(const PluginChoice& choice, Host& host) const;
  std::shared_ptr<Evaluator> evaluator(const PluginChoice& choice, Host& host) const;

 private:
  void load(const std::filesystem::path& file);
  template <class T, class Context>
  std::shared_ptr<T> make(const PluginChoice& choice, Context* context) const;

  std::vector<PluginInfo> plugins_;
  std::vector<const DkdmPluginTable*> tables_;  // parallel to plugins_
  std::vector<Refusal> refusals_;
};

}  // namespace dkdm::plugin
