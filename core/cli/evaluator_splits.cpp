#include "cli/evaluator_splits.hpp"

#include <iostream>

#include "io/plain_text.hpp"
#include "results/admin/evaluators.hpp"

namespace dkdm::cli {

void say_evaluator_splits(Context& context, const std::string& experiment) {
  if (!std::filesystem::exists(context.database())) return;
  for (const auto& split :
       results::evaluator_splits(context.database(), context.home(), experiment)) {
    std::cerr << "dkdm: " << io::printable(split.text()) << '\n';
    if (split.command.empty()) continue;
    std::cerr << "dkdm: to measure them alike, from the kept weights:\n  dkdm";
    for (const auto& argument : split.command)
      std::cerr << ' ' << io::printable(io::shell_quoted(argument));
    std::cerr << '\n';
  }
}

}  // namespace dkdm::cli
