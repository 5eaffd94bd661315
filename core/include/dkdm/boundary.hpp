// The plugin boundary. A module is one shared library that exports one symbol, `dkdm_plugin`, which
// returns a table. The front of the table never changes; the host compares ABI number and build id
// for equality before it touches anything behind them, because C++ types cross. Last line of a
// plugin, after the header of its kind (dkdm/denoiser.hpp, …) and `static ParamTable T::params()`:
//
//   DKDM_STUDENT("my-net", "1", "one line", T)  // T(const Params&, const SampleShape&), or
//                                               // T(const Params&, const StudentContext&)
//   DKDM_TEACHER / DKDM_DATASET / DKDM_BASELINE / DKDM_DISTILLATION / DKDM_EVALUATOR /
//   DKDM_AUTOENCODER                            // T(const Params&, Host&)
#pragma once

#include <torch/version.h>

#include <cstring>
#include <type_traits>

#include "dkdm/error.hpp"
#include "dkdm/params.hpp"

#define DKDM_ABI 10
#define DKDM_STR_(x) #x
#define DKDM_STR(x) DKDM_STR_(x)
#define DKDM_BUILD_ID                                                                        \
  "gcc-abi " DKDM_STR(__GXX_ABI_VERSION) ", compiler " DKDM_STR(__GNUC__) ", C++ " DKDM_STR( \
      __cplusplus) ", cxx11 " DKDM_STR(_GLIBCXX_USE_CXX11_ABI) ", LibTorch " TORCH_VERSION

namespace dkdm {
struct Announced;  // dkdm/announced.hpp
}

extern "C" {
struct DkdmPluginTable {
  // Front: fixed for ever.
  std::uint32_t struct_size;
  std::uint32_t abi;
  const char* build_id;
  // Behind the handshake.
  const char* kind;  // "student", "teacher", …: those of the macros below
  const char* name;
  const char* version;  // changes whenever the same parameters would give another result
  const char* summary;
  dkdm::ParamTable (*params)();
  // The object, or null with `error` and an ExitCode. `context`: StudentContext (student) or Host.
  void* (*create)(const dkdm::Params* params, void* context, char* error, std::size_t error_size,
                  int* exit_code);
  void (*destroy)(void* object);
  // What is known while files are absent; null = nothing.
  void (*announce)(const dkdm::Params& params, dkdm::Announced& announced);
};
}

namespace dkdm::detail {

template <class T, class Context>
T* make(const Params& params, Context& context) {
  static_assert(!std::is_abstract_v<T>, "a plugin implements every pure function of its kind");
  if constexpr (std::is_constructible_v<T, const Params&, Context&>) {
    return new T(params, context);
  } else {
    static_assert(
        requires { new T(params, context.shape); }, "the top of this file says how T is made");
    return new T(params, context.shape);
  }
}

// Base is the kind's interface: create and destroy pass it through void*.
template <class Base, class T, class Context>
void* create(const Params* params, void* context, char* error, std::size_t error_size,
             int* exit_code) {
  auto say = [&](const char* what, ExitCode code) {
    std::strncpy(error, what, error_size - 1);
    *exit_code = static_cast<int>(code);
  };
  try {
    return static_cast<Base*>(make<T>(*params, *static_cast<Context*>(context)));
  } catch (const std::exception& e) {
    const auto* known = dynamic_cast<const Error*>(&e);
    say(e.what(), known ? known->exit_code() : ExitCode::run_failed);
  } catch (...) {
    say("threw something that is not a std::exception", ExitCode::run_failed);
  }
  return nullptr;
}

template <class Base, class T, class Context>
constexpr DkdmPluginTable table(const char* kind, const char* name, const char* version,
                                const char* summary) {
  DkdmPluginTable table(
      sizeof(DkdmPluginTable), DKDM_ABI, DKDM_BUILD_ID, kind, name, version, summary, &T::params,
      &create<Base, T, Context>, [](void* object) { delete static_cast<Base*>(object); }, nullptr);
  if constexpr (requires { &T::announce; }) table.announce = &T::announce;
  return table;
}

}  // namespace dkdm::detail

#define DKDM_PLUGIN_(KIND, BASE, CONTEXT, NAME, VERSION, SUMMARY, T)         \
  extern "C" DKDM_API const DkdmPluginTable* dkdm_plugin() {                 \
    static constexpr DkdmPluginTable table =                                 \
        dkdm::detail::table<BASE, T, CONTEXT>(KIND, NAME, VERSION, SUMMARY); \
    return &table;                                                           \
  }

// Of (NAME, VERSION, SUMMARY, T).
#define DKDM_STUDENT(...) \
  DKDM_PLUGIN_("student", dkdm::Denoiser, const dkdm::StudentContext, __VA_ARGS__)
#define DKDM_TEACHER(...) DKDM_PLUGIN_("teacher", dkdm::Teacher, dkdm::Host, __VA_ARGS__)
#define DKDM_DATASET(...) DKDM_PLUGIN_("dataset", dkdm::Dataset, dkdm::Host, __VA_ARGS__)
#define DKDM_BASELINE(...) DKDM_PLUGIN_("baseline", dkdm::Method, dkdm::Host, __VA_ARGS__)
#define DKDM_DISTILLATION(...) DKDM_PLUGIN_("distillation", dkdm::Method, dkdm::Host, __VA_ARGS__)
#define DKDM_EVALUATOR(...) DKDM_PLUGIN_("evaluator", dkdm::Evaluator, dkdm::Host, __VA_ARGS__)
#define DKDM_AUTOENCODER(...) \
  DKDM_PLUGIN_("autoencoder", dkdm::Autoencoder, dkdm::Host, __VA_ARGS__)
