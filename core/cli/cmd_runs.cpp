// dkdm runs: recorded runs, listed, shown, compared, forgotten.
#include <charconv>
#include <iostream>

#include "cli/commands.hpp"
#include "cli/options.hpp"
#include "results/runs.hpp"

namespace dkdm::cli {

namespace {

std::int64_t run_id(const Options& options, const std::string& word) {
  std::int64_t id = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), id);
  if (error != std::errc() || end != word.data() + word.size() || id < 1) {
    options.misuse("runs: '" + word + "' is not a run's number; dkdm runs lists them");
  }
  return id;
}

}  // namespace

int cmd_runs(const Arguments& args, Context& context) {
  Options options("runs [list [EXPERIMENT] | show ID | diff ID ID | rm ID] [--format F]",
                  "Lists recorded runs, shows one in full, compares two, or forgets one (its\n"
                  "artifacts stay: other runs may read them).");
  options.with_format().with_words(3);
  if (!options.parse(args)) return 0;
  auto words = options.words();
  if (words.empty()) words = {"list"};
  const std::string& action = words[0];
  const auto expect = [&](std::size_t least, std::size_t most, const std::string& form) {
    const std::size_t given = words.size() - 1;
    if (given < least || given > most) options.misuse("expected: dkdm runs " + form);
  };

  if (action == "list") {
    expect(0, 1, "list [EXPERIMENT]");
    options.print(results::runs_list(context.recorded_database(), words.size() > 1 ? words[1] : ""));
  } else if (action == "show") {
    expect(1, 1, "show ID");
    const std::int64_t id = run_id(options, words[1]);
    std::cout << results::run_detail(context.recorded_database(), id).render(options.format());
  } else if (action == "diff") {
    expect(2, 2, "diff ID ID");
    const std::int64_t a = run_id(options, words[1]), b = run_id(options, words[2]);
    options.print(results::runs_diff(context.recorded_database(), a, b));
  } else if (action == "rm") {
    expect(1, 1, "rm ID");
    const std::int64_t id = run_id(options, words[1]);
    results::remove_run(context.recorded_database(), id);
    std::cerr << "dkdm: run " << id << " forgotten; its artifacts stay\n";
  } else {
    options.misuse("runs: no '" + action + "'; there are: list, show ID, diff ID ID, rm ID");
  }
  return 0;
}

}  // namespace dkdm::cli
