// Discovery of plugins and the making of their objects (plugin/registry.hpp).
#include "plugin/registry.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <map>
#include <mutex>
#include <sstream>
#include <system_error>

#include "dkdm/nearest.hpp"
#include "dkdm/plugin.hpp"
#include "error_text.hpp"
#include "plugin/call.hpp"
#include "plugin/guarded.hpp"
#include "plugin/module.hpp"
#include "plugin/seeded_generator.hpp"
#include "plugin/trial.hpp"

namespace dkdm::plugin {
namespace {

namespace fs = std::filesystem;

bool is_kind(const std::string& wanted, const std::string& kind) {
  return wanted == kind || (wanted == "method" && (kind == "baseline" || kind == "distillation"));
}

// Names are unique across kinds: `dkdm plugins describe NAME` names no kind.
void require_free_name(const std::deque<PluginInfo>& plugins, const std::string& name,
                       const fs::path& file) {
  for (const PluginInfo& other : plugins) {
    if (other.name != name) continue;
    throw PluginError(file.string(), "handshake",
                      "plugin name \"" + name + "\" is taken by " + other.file.string() +
                          "; rename one of them or remove a file");
  }
}

}  // namespace

Registry::Registry(const std::vector<fs::path>& folders) {
  for (const fs::path& folder : folders) add(folder, "shipped");
  constexpr const char* kVariable = "DKDM_PLUGIN_PATH";
  if (const char* path = std::getenv(kVariable)) {
    std::istringstream stream(path);
    for (std::string part; std::getline(stream, part, ':');) {
      if (!part.empty()) add(part, kVariable);
    }
  }
}

void Registry::add(const fs::path& path, const std::string& origin) {
  std::error_code error;
  std::vector<fs::path> files;
  if (path.extension() == ".so") {
    files.push_back(path);
  } else {
    for (fs::directory_iterator entry(path, error), end; !error && entry != end;
         entry.increment(error)) {
      if (entry->path().extension() == ".so") files.push_back(entry->path());
    }
    if (error) {
      refusals_.push_back({path, path.string() + ": open: " + error.message() +
                                     "; correct the plugin path or make the folder"});
    }
    std::sort(files.begin(), files.end());
  }
  std::erase_if(files, [&](const fs::path& file) {
    const fs::path real = fs::weakly_canonical(file, error);
    return !error && !seen_.insert(real).second;
  });
  std::map<fs::path, Probe> probes;
  try {
    probes = probe_modules(files);
  } catch (const std::system_error&) {
    // No process to try them in (a limit, a sandbox): they are opened untried.
  }
  for (const fs::path& file : files) {
    try {
      if (const auto probe = probes.find(file); probe != probes.end()) {
        if (!probe->second.refusal.empty()) {
          refusals_.push_back({file, probe->second.refusal});
          continue;
        }
        require_free_name(plugins_, probe->second.name, file);
      }
      load(file, origin);
    } catch (const std::exception& e) {
      refusals_.push_back({file, error_text(e)});
    }
  }
}

void Registry::load(const fs::path& file, const std::string& origin) {
  std::string changed;
  {
    const CallScope scope(file.string(), "open", Care::opening, &changed);
    const DkdmPluginTable& table = open_module(file);
    require_free_name(plugins_, table.name, file);
    plugins_.push_back({table.kind,
                        table.name,
                        table.version,
                        table.summary,
                        declared_params(table, file),
                        file,
                        origin,
                        &table,
                        {}});
  }
  plugins_.back().changed = changed;
}

const PluginInfo* Registry::lookup(const std::string& kind, const std::string& name) const {
  const auto found = std::find_if(plugins_.begin(), plugins_.end(), [&](const PluginInfo& plugin) {
    return plugin.name == name && is_kind(kind, plugin.kind);
  });
  return found == plugins_.end() ? nullptr : &*found;
}

const PluginInfo& Registry::find(const std::string& kind, const std::string& name,
                                 const std::string& where) const {
  if (const PluginInfo* plugin = lookup(kind, name)) return *plugin;
  for (const Refusal& refusal : refusals_) {
    if (refusal.file.stem() == name) {
      throw ConfigError(where, kind + " \"" + name + "\" was not loaded: " + refusal.reason);
    }
  }
  std::vector<std::string> names;
  std::string known;
  for (const PluginInfo& plugin : plugins_) {
    if (plugin.name == name) {
      throw ConfigError(where, '"' + name + "\" is a " + plugin.kind + ", expected a " + kind);
    }
    if (!is_kind(kind, plugin.kind)) continue;
    names.push_back(plugin.name);
    known += (known.empty() ? "" : ", ") + plugin.name;
  }
  const std::string near = nearest_name(name, names);
  std::string hint = "; no plugin of that kind is loaded";
  if (!near.empty()) {
    hint = ", did you mean \"" + near + "\"?";
  } else if (!known.empty()) {
    hint = ", expected one of " + known;
    hint += "; DKDM_PLUGIN_PATH and an experiment's `plugins` name others";
  }
  const auto given = hints_.find({kind, name});
  if (given != hints_.end()) hint = "; " + given->second;
  throw ConfigError(where, "unknown " + kind + " \"" + name + '"' + hint);
}

template <class T, class Context>
std::shared_ptr<T> Registry::make(const PluginChoice& choice, Context* context) const {
  const PluginInfo& plugin = find(choice.kind, choice.name);
  const DkdmPluginTable& table = *plugin.table;
  if (!plugin.changed.empty()) say_changed(choice.name, "open", plugin.changed);
  const CallScope scope(choice.name, "create", Care::process);
  std::array<char, 2048> error = {};
  int code = static_cast<int>(ExitCode::run_failed);
  // The macros take back the constness that they put into Context.
  void* object = table.create(&choice.params, const_cast<std::remove_const_t<Context>*>(context),
                              error.data(), error.size(), &code);
  if (!object) {
    if (code == static_cast<int>(ExitCode::interrupted)) throw Interrupted();
    throw PluginError(choice.name, "create", one_line(error.data()), static_cast<ExitCode>(code));
  }
  T* const made = static_cast<T*>(object);
  remember_name(made, choice.name);
  return std::shared_ptr<T>(made, [destroy = table.destroy, name = choice.name](T* gone) {
    const CallScope ending(name, "destroy", Care::numbers);
    forget_name(gone);
    destroy(gone);
  });
}

std::shared_ptr<Denoiser> Registry::student(const PluginChoice& choice,
                                            const StudentContext& context,
                                            std::uint64_t seed) const {
  check_size(choice, context);
  const SeededGenerator generator(seed);
  return make<Denoiser>(choice, &context);
}

NetworkSize Registry::check_size(const PluginChoice& choice, const StudentContext& context,
                                 std::int64_t copies, const std::string& where) const {
  // Seeded as well: where the construction draws, the generator is afterwards as it was.
  const SeededGenerator generator(0);
  const auto construct = [&] { return make<Denoiser>(choice, &context); };
  try {
    return measured_network(construct, copies, where.empty() ? "student " + choice.name : where);
  } catch (const ConfigError&) {
    throw;
  } catch (const Interrupted&) {
    throw;
  } catch (const PluginError&) {
    // What it refuses is said by its construction; so is a fault that only unwritten weights bring.
    const auto network = construct();
    NetworkSize size;
    for (const auto& parameter : network->parameters()) size.parameters += parameter.numel();
    return size;
  }
}

std::shared_ptr<Teacher> Registry::teacher(const PluginChoice& choice, Host& host) const {
  return guarded(make<Teacher>(choice, &host), choice.name);
}

std::shared_ptr<Dataset> Registry::dataset(const PluginChoice& choice, Host& host) const {
  return guarded(make<Dataset>(choice, &host), choice.name);
}

std::shared_ptr<Method> Registry::method(const PluginChoice& choice, Host& host) const {
  return guarded(make<Method>(choice, &host), choice.name);
}

std::shared_ptr<Evaluator> Registry::evaluator(const PluginChoice& choice, Host& host) const {
  return guarded(make<Evaluator>(choice, &host), choice.name);
}

std::shared_ptr<Autoencoder> Registry::autoencoder(const PluginChoice& choice, Host& host) const {
  const SeededGenerator generator(0);  // what it draws, load_weights replaces
  const auto construct = [&] { return make<Autoencoder>(choice, &host); };
  try {
    measured_network(construct, /*copies=*/1, "autoencoder " + choice.name);
  } catch (const PluginError&) {
    // As in check_size: its construction says it, or only unwritten weights bring it.
  }
  return guarded(construct(), choice.name);
}

}  // namespace dkdm::plugin
