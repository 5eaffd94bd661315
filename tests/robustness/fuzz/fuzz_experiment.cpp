// Experiment files against the shipped plugins, and overrides: the input up to a line "--set" is
// the file, each line after it one override.
#include "config/experiment.hpp"
#include "fuzz_target.hpp"

DKDM_FUZZ_TARGET(experiment) {
  static const dkdm::fuzz::Folder folder;
  static const dkdm::plugin::Registry registry({DKDM_FUZZ_PLUGINS});
  constexpr std::string_view kMark = "\n--set\n";
  std::vector<std::string> overrides;
  if (const auto mark = input.find(kMark); mark != input.npos) {
    for (auto rest = input.substr(mark + kMark.size()); !rest.empty();) {
      const auto end = rest.find('\n');
      overrides.emplace_back(rest.substr(0, end));
      rest.remove_prefix(end == rest.npos ? rest.size() : end + 1);
    }
    input = input.substr(0, mark);
  }
  const auto file = folder.write("input.toml", input);
  dkdm::fuzz::accepted([&] { dkdm::config::named_plugins({file, overrides, {}}); });
  dkdm::fuzz::accepted([&] {
    const auto experiment = dkdm::config::load_experiment({file, overrides, {}}, registry);
    dkdm::fuzz::require(!experiment.rows.empty() && !experiment.resolved.empty(),
                        "an empty experiment");
  });
}
