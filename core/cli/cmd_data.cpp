// dkdm data list: every dataset plugin, present or how to get it.
#include "cli/commands.hpp"
#include "cli/datasets.hpp"
#include "cli/options.hpp"

namespace dkdm::cli {

int cmd_data(const Arguments& args, Context& context) {
  Options options("data list [--format F]",
                  "Lists the datasets: present on this machine with their default parameters, or\n"
                  "how to get them.");
  options.with_format().with_words(1);
  if (!options.parse(args)) return 0;
  if (const auto words = options.words(); !words.empty() && words[0] != "list") {
    options.unknown("data", words[0], {"list"}, "list");
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
