// Opens every dataset once and keeps what it says.
#include "cli/datasets.hpp"

#include "cli/signals.hpp"
#include "run/run_host.hpp"

namespace dkdm::cli {

std::vector<DatasetState> dataset_states(Context& context) {
  const plugin::Registry& registry = context.registry();
  run::RunHost host(registry, stop_requested, nullptr);
  std::vector<DatasetState> states;
  for (const plugin::PluginInfo& info : registry.plugins()) {
    if (info.kind != "dataset") continue;
    DatasetState state;
    state.name = info.name;
    state.summary = info.summary;
    for (const Param& param : info.params) {
      if (!param.is_required) continue;
      state.problem += state.needs_parameters ? ", " : "set ";
      state.problem += param.name + " (" + param.help + ")";
      state.needs_parameters = true;
    }
    if (!state.needs_parameters) {
      try {
        const auto set =
            registry.dataset({info.kind, info.name, info.version, Params(info.params, {})}, host);
        state.spec = set->spec();
        state.images = set->size();
        state.classes = set->num_classes();
        state.present = true;
      } catch (const Interrupted&) {
        throw;
      } catch (const Error& error) {
        state.problem = error.what();
      }
    }
    states.push_back(std::move(state));
  }
  return states;
}

}  // namespace dkdm::cli
