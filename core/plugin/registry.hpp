// The plugins found in a list of folders, each loaded once, checked by the handshake, never
// unloaded.
#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "dkdm/autoencoder.hpp"
#include "dkdm/dataset.hpp"
#include "dkdm/denoiser.hpp"
#include "dkdm/evaluator.hpp"
#include "dkdm/host.hpp"
#include "dkdm/memory.hpp"
#include "dkdm/method.hpp"
#include "dkdm/params.hpp"
#include "dkdm/teacher.hpp"

struct DkdmPluginTable;

namespace dkdm::plugin {

struct PluginInfo {
  std::string kind, name, version, summary;
  ParamTable params;
  std::filesystem::path file;
  std::string origin;  // who named it: "shipped", "DKDM_PLUGIN_PATH", an experiment's file
  const DkdmPluginTable* table = nullptr;
  // What of the host's opening it changed, "" = nothing. It was put back: said when the plugin is
  // used.
  std::string changed;
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
  // Adds the host's own `folders`, then what $DKDM_PLUGIN_PATH names (files and folders, separated
  // by colons).
  explicit Registry(const std::vector<std::filesystem::path>& folders);

  // Loads a module (*.so), or every one of a folder in name order. One that fails is refused and
  // never stops the others, not even by ending its process: it is opened in a child first. A file
  // that was added before is passed over. What was found stays where it is.
  void add(const std::filesystem::path& path, const std::string& origin);

  // What find() says besides where it knows no plugin of that kind and name.
  void set_hint(const std::string& kind, const std::string& name, const std::string& hint) {
    hints_[{kind, name}] = hint;
  }

  const std::deque<PluginInfo>& plugins() const { return plugins_; }
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
  std::shared_ptr<Denoiser> student(const PluginChoice& choice, const StudentContext& context,
                                    std::uint64_t seed) const;
  // The size of a student, without its memory (dkdm/memory.hpp); `student` asks it first. Throws as
  // that, and ConfigError beginning with `where` for a network of which `copies` do not fit this
  // machine.
  NetworkSize check_size(const PluginChoice& choice, const StudentContext& context,
                         std::int64_t copies = 1, const std::string& where = "") const;
  std::shared_ptr<Teacher> teacher(const PluginChoice& choice, Host& host) const;
  std::shared_ptr<Dataset> dataset(const PluginChoice& choice, Host& host) const;
  std::shared_ptr<Method> method(const PluginChoice& choice, Host& host) const;
  std::shared_ptr<Evaluator> evaluator(const PluginChoice& choice, Host& host) const;
  // Without its weights. Throws as `check_size` does for one that does not fit this machine.
  std::shared_ptr<Autoencoder> autoencoder(const PluginChoice& choice, Host& host) const;

 private:
  void load(const std::filesystem::path& file, const std::string& origin);
  template <class T, class Context>
  std::shared_ptr<T> make(const PluginChoice& choice, Context* context) const;

  std::deque<PluginInfo> plugins_;
  std::vector<Refusal> refusals_;
  std::map<std::pair<std::string, std::string>, std::string> hints_;  // by kind and name
  std::set<std::filesystem::path> seen_;                              // files, canonical
};

}  // namespace dkdm::plugin
