// dkdm runs: recorded runs, listed, shown, compared, exported, forgotten.
#include <iostream>

#include "cli/commands.hpp"
#include "cli/options.hpp"
#include "cli/terminal.hpp"
#include "results/admin/export.hpp"
#include "results/query/runs.hpp"
#include "results/query/tensorboard.hpp"

namespace dkdm::cli {

namespace fs = std::filesystem;
namespace po = boost::program_options;

namespace {

void show(const Options& options, Context& context, std::int64_t id) {
  const auto detail = results::run_detail(context.recorded_database(), id);
  if (options.has("config")) print_exactly(detail.config);
  else std::cout << detail.render(options.format(), stdout_has_colour(), stdout_columns());
}

void export_runs(const Options& options, Context& context, const std::vector<std::int64_t>& runs) {
  const fs::path file = context.recorded_database();
  if (options.has("tensorboard")) {
    for (const auto& written :
         results::export_tensorboard(file, options.get<std::string>("tensorboard"), runs)) {
      std::cout << written.string() << '\n';
    }
    return;
  }
  if (runs.size() != 1) options.misuse("expected: dkdm runs export ID [-o FILE.tar]");
  const fs::path archive = options.has("output") ? options.get<std::string>("output")
                                                 : "run-" + std::to_string(runs[0]) + ".tar";
  if (archive.extension() != ".tar") options.misuse("--output: expected FILE.tar");
  results::export_run(file, context.home(), runs[0], archive,
                      {.everything = options.has("everything")});
  std::cout << archive.string() << '\n';
}

}  // namespace

int cmd_runs(const Arguments& args, Context& context) {
  Options options(
      "runs [list [EXPERIMENT] | show ID | diff ID ID | export ID… | pin ID | unpin ID | rm ID] "
      "[options]",
      "Lists recorded runs; shows one in full, with the commands that repeat it; says what\n"
      "differs between two, and which difference changes what is computed; writes one to an\n"
      "archive that `dkdm db merge` takes elsewhere, or all to TensorBoard; pins one as the run\n"
      "that counts for its row and seed; or forgets one (its artifacts stay: other runs may\n"
      "read them).");
  options.add()("config", "show: the configuration alone, an experiment file that repeats the run")(
      "output,o", po::value<std::string>()->value_name("FILE.tar"),
      "export: the archive, run-ID.tar if not said")(
      "everything", "export: also the teacher, pool, synthetic set and evaluator")(
      "tensorboard", po::value<std::string>()->value_name("DIR"),
      "export: event files of these runs, or of all, instead");
  options.add()("note", po::value<std::string>()->value_name("TEXT")->default_value(""),
                "pin: why; reports show it");
  options.with_format().with_words(-1);
  if (!options.parse(args)) return 0;
  auto words = options.words();
  if (words.empty()) words = {"list"};
  const std::string action = words[0];
  words.erase(words.begin());
  const auto expect = [&](std::size_t least, std::size_t most, const std::string& form) {
    if (words.size() < least || words.size() > most) options.misuse("expected: dkdm runs " + form);
  };
  if (action == "list") {
    expect(0, 1, "list [EXPERIMENT]");
    options.print(results::runs_list(context.recorded_database(), words.empty() ? "" : words[0]));
    return 0;
  }
  std::vector<std::int64_t> ids;
  for (const std::string& word : words) ids.push_back(run_number(word));
  if (action == "show") {
    expect(1, 1, "show ID");
    show(options, context, ids[0]);
  } else if (action == "diff") {
    expect(2, 2, "diff ID ID");
    options.print(results::runs_diff(context.recorded_database(), ids[0], ids[1]));
  } else if (action == "export") {
    export_runs(options, context, ids);
  } else if (action == "pin") {
    expect(1, 1, "pin ID [--note TEXT]");
    const auto before =
        results::pin_run(context.recorded_database(), ids[0], options.get<std::string>("note"));
    std::cerr << "dkdm: run " << ids[0] << " counts for its row and seed from now on";
    if (before) std::cerr << ", in place of run " << *before;
    std::cerr << '\n';
  } else if (action == "unpin") {
    expect(1, 1, "unpin ID");
    results::unpin_run(context.recorded_database(), ids[0]);
    std::cerr << "dkdm: run " << ids[0] << " is not pinned any more\n";
  } else if (action == "rm") {
    expect(1, 1, "rm ID");
    results::remove_run(context.recorded_database(), ids[0]);
    std::cerr << "dkdm: run " << ids[0] << " forgotten; its artifacts stay\n";
  } else {
    options.unknown("runs", action, {"list", "show", "diff", "export", "pin", "unpin", "rm"},
                    "list, show ID, diff ID ID, export ID, pin ID, unpin ID, rm ID");
  }
  return 0;
}

}  // namespace dkdm::cli
