// The line between host and plugin, as a call crosses it. Around every call into a plugin
//   - it is noted who is inside, for whoever finds the process dead;
//   - the host's state is put back (plugin/host_state.hpp), and the log says once who changed what;
//   - what is thrown and is no dkdm::Error becomes PluginError, one line that names plugin and
//   stage.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "dkdm/dataset.hpp"
#include "dkdm/denoiser.hpp"
#include "plugin/host_state.hpp"

namespace dkdm::plugin {

// Which plugin made an object; "" for one that nobody named. By the address of its interface.
DKDM_API std::string name_of(const void* object);
DKDM_API void remember_name(const void* object, const std::string& plugin);
DKDM_API void forget_name(const void* object);
// `network` under the name of the plugin that it came out of.
DKDM_API std::shared_ptr<Denoiser> named(std::shared_ptr<Denoiser> network,
                                         const std::string& plugin);

// Memory in which the calls of a process are noted where another process sees them.
class DKDM_API CallNotes {
 public:
  CallNotes();  // throws std::system_error
  ~CallNotes();
  CallNotes(const CallNotes&) = delete;
  CallNotes& operator=(const CallNotes&) = delete;
  // This process notes its calls here from now on.
  void use();

  struct Call {
    std::string plugin, stage;
  };
  // The call that the process is in, or was when it ended.
  std::optional<Call> current() const;

 private:
  void* memory_;
};

// numbers: what is called once a step. process: what is called seldom; stdout is kept from it as
// well. opening: as process, in a process that may still fork, which it must not after starting
// worker threads.
enum class Care { numbers, process, opening };

// Warns, once a process, that `plugin` changed in `stage` what is the host's and was put back.
DKDM_API void say_changed(const std::string& plugin, const char* stage, const std::string& changed);

class DKDM_API CallScope {
 public:
  // What the call changed goes to `changed` where that is given, and is not said.
  CallScope(std::string plugin, const char* stage, Care care, std::string* changed = nullptr);
  ~CallScope();
  CallScope(const CallScope&) = delete;
  CallScope& operator=(const CallScope&) = delete;

  // Within a catch block: throws the exception on, an unknown one as PluginError.
  [[noreturn]] void rethrow() const;

 private:
  void note() const;

  const std::string plugin_;
  const char* const stage_;
  const Care care_;
  std::string* const changed_;
  const CallScope* const outer_;  // a plugin may call the host, and that another plugin
  const NumericState numbers_;
  std::optional<ProcessState> process_;
  std::optional<StdoutAside> output_;
};

// The result of `function`, called in the name of `plugin`. Calls of interfaces that the registry
// hands out are so by themselves (plugin/guarded.hpp); a network's go through `predict`.
template <class Function>
decltype(auto) call(const std::string& plugin, const char* stage, Care care,
                    const Function& function) {
  const CallScope scope(plugin, stage, care);
  try {
    return function();
  } catch (...) {
    scope.rethrow();
  }
}

// network.forward(x_t, t), checked: float32 [N,C,H,W] or [N,2C,H,W] where x_t is, x_t as it was,
// else PluginError with what it is instead. Of any memory layout; without holes or shared elements
// afterwards. Whatever calls a network for its result calls it by this.
DKDM_API at::Tensor predict(Denoiser& network, const at::Tensor& x_t, const at::Tensor& t);

// compute() for the object of a plugin (an autoencoder), checked: float32 [N, shape] where `input`
// [N,…] is, `input` as it was, else PluginError with what it is instead.
DKDM_API at::Tensor transformed(const void* object, const char* stage, const at::Tensor& input,
                                const SampleShape& shape,
                                const std::function<at::Tensor()>& compute);

// dataset.images(index), checked: uint8 [n,C,H,W] of its own spec; contiguous afterwards.
DKDM_API at::Tensor images_of(const Dataset& dataset, const at::Tensor& index);

}  // namespace dkdm::plugin
