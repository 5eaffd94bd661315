// dkdm query: read-only SQL.
#include <iostream>

#include "cli/commands.hpp"
#include "cli/options.hpp"
#include "cli/signals.hpp"
#include "results/query/query.hpp"
#include "results/store/examples.hpp"

namespace dkdm::cli {

int cmd_query(const Arguments& args, Context& context) {
  Options options(
      "query \"SELECT …\" [--format F]",
      "Runs a read-only SQL query on the results database. There is a view for each table and\n"
      "figure of the paper, and leaderboard, latest_metrics, run_status, failures, costs:\n"
      "  dkdm query \"SELECT * FROM table2\"\n"
      "Real numbers are rounded in text and markdown, and complete in csv and json. Text fits\n"
      "the terminal; into a pipe or a file every column is written.\n"
      "`dkdm db schema --format markdown` describes every table, view and column.");
  constexpr double kMostSeconds = 1e9;
  options.add()("examples", "print a question and its query for each view");
  options.add_real("time-limit", "SECONDS", 60, 0, kMostSeconds,
                   "stop a query that takes longer; 0 = no limit");
  options.with_format().with_words(1);
  if (!options.parse(args)) return 0;
  if (options.has("examples")) {
    if (options.format() != results::Format::text) {
      options.print(results::examples_table());
      return 0;
    }
    for (const auto& example : results::query_examples()) {
      std::cout << "# " << example.view << ": " << example.question << "\ndkdm query \""
                << example.sql << "\"\n\n";
    }
    return 0;
  }
  if (options.words().empty()) options.misuse("query: which SELECT?");
  results::QueryLimits limits;
  limits.seconds = options.real("time-limit");
  limits.stop = &stop_requested;
  options.print(results::query(context.recorded_database(), options.words()[0], limits));
  return 0;
}

}  // namespace dkdm::cli
