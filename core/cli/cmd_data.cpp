// dkdm data list: every dataset plugin, present or how to get it (prepare: cmd_data_prepare.cpp).
#include "cli/commands.hpp"
#include "cli/datasets.hpp"
#include "cli/options.hpp"

namespace dkdm::cli {

int cmd_data(const Arguments& args, Context& context) {
  if (!args.empty() && args[0] == "prepare")
    return cmd_data_prepare({args.begin() + 1, args.end()}, context);
  Options options(
      "data [list | prepare NAME] [--format F]",
      "list      the datasets: present on this machine with their default parameters, or\n"
      "          how to get them\n"
      "prepare   one dataset: reads every image (dkdm data prepare --help)");
  options.with_format().with_words(1);
  if (!options.parse(args)) return 0;
  if (const auto words = options.words(); !words.empty() && words[0] != "list") {
    options.unknown("data", words[0], {"list", "prepare"}, "list, prepare");
  }

  const auto right = results::Align::right;
  results::Table table;
  table.columns = {
      {"dataset"}, {"state"}, {"images", right, true}, {"shape"}, {"classes", right, true},
      {"note"}};
  for (const DatasetState& set : dataset_states(context)) {
    if (set.present) {
      table.rows.push_back({set.name, "present", std::to_string(set.images), text_of(set.spec),
                            std::to_string(set.classes), set.summary});
    } else {
      table.rows.push_back({set.name,
                            set.needs_parameters ? "needs parameters" : "missing",
                            {},
                            {},
                            {},
                            set.problem});
    }
  }
  options.print(table);
  return 0;
}

}  // namespace dkdm::cli
