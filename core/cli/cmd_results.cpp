// The commands that read the results database: query, runs, report, db.
#include <charconv>
#include <iostream>

#include "cli/commands.hpp"
#include "cli/options.hpp"
#include "config/experiment.hpp"
#include "dkdm/io.hpp"
#include "results/info.hpp"
#include "results/query.hpp"
#include "results/report.hpp"
#include "results/runs.hpp"

namespace dkdm::cli {

namespace fs = std::filesystem;
namespace po = boost::program_options;

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

int cmd_query(const Arguments& args, Context& context) {
  Options options("query \"SELECT …\" [--format F]",
                  "Asks the results database in SQL, read-only. Start with the views table2,\n"
                  "run_status, latest_metrics, leaderboard, failures and costs:\n"
                  "  dkdm query \"SELECT * FROM table2\"");
  options.with_format().with_words(1);
  if (!options.parse(args)) return 0;
  if (options.words().empty()) options.misuse("query: which SELECT?");
  options.print(results::query(context.recorded_database(), options.words()[0]));
  return 0;
}

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

namespace {

// Sample grids that earlier runs published: <home>/grids/<experiment>/<row>.png.
std::map<std::string, fs::path> published_grids(const fs::path& home) {
  std::map<std::string, fs::path> grids;
  if (!fs::is_directory(home / "grids")) return grids;
  for (const auto& entry : fs::recursive_directory_iterator(home / "grids")) {
    if (entry.path().extension() != ".png") continue;
    const fs::path row = fs::relative(entry.path(), home / "grids").replace_extension();
    grids[row.generic_string()] = entry.path();
  }
  return grids;
}

// A word is an experiment file, the name of a shipped one, or a name that runs were recorded by.
void select(const std::string& word, Context& context, std::vector<std::string>& experiments,
            results::ReportOptions& report) {
  fs::path file = word;
  if (!fs::is_regular_file(file)) {
    file = context.experiments() / (word.ends_with(".toml") ? word : word + ".toml");
  }
  if (!fs::is_regular_file(file)) {
    if (word.ends_with(".toml")) throw DataError(word, "no such experiment file");
    experiments.push_back(word);
    return;
  }
  const auto experiment = config::load_experiment(file, {}, context.registry());
  experiments.push_back(experiment.name);
  for (const config::Row& row : experiment.rows) {
    report.expected.push_back(
        {experiment.name, row.id, row.label, experiment.published, row.published});
  }
}

}  // namespace

int cmd_report(const Arguments& args, Context& context) {
  Options options("report [FILE…] [-o OUT] [--format F]",
                  "Prints the tables of experiments (all that are on record, or those of the files\n"
                  "named) with the published values beside and the spread over seeds.");
  options.add()("output,o", po::value<std::string>()->value_name("OUT"),
                "write to this file; its ending says the format (.md .csv .json .tex .html)")(
      "format", po::value<std::string>()->value_name("F"),
      "text (default), markdown, csv, json, latex or html");
  options.with_words(-1);
  if (!options.parse(args)) return 0;

  results::ReportOptions report;
  const bool to_file = options.has("output");
  const fs::path output = to_file ? fs::path(options.get<std::string>("output")) : fs::path();
  if (options.has("format")) {
    report.format = results::parse_report_format(options.get<std::string>("format"));
  } else if (to_file && output.has_extension() && output.extension() != ".txt") {
    report.format = results::parse_report_format(output.extension().string().substr(1));
  }
  const fs::path file = context.recorded_database();
  std::vector<std::string> experiments;
  for (const std::string& word : options.words()) select(word, context, experiments, report);
  report.grids = published_grids(context.home());
  const std::string text = results::report(file, experiments, report);
  if (to_file) {
    io::write_text(output, text);
    std::cout << output.string() << '\n';
  } else {
    std::cout << text;
  }
  return 0;
}

int cmd_db(const Arguments& args, Context& context) {
  Options options("db info [--format F]",
                  "The results database: its file, schema version, size and rows.");
  options.with_format().with_words(1);
  if (!options.parse(args)) return 0;
  if (const auto words = options.words(); !words.empty() && words[0] != "info") {
    options.misuse("db: no '" + words[0] + "'; there is: info");
  }
  const fs::path file = context.recorded_database();
  const results::StoreInfo info = results::store_info(file);
  results::Table table;
  table.columns = {{"property"}, {"value"}};
  table.rows = {{"file", file.string()},
                {"schema version", std::to_string(info.schema_version)},
                {"journal", info.journal},
                {"bytes", std::to_string(info.bytes)}};
  for (const auto& [name, rows] : info.rows) {
    table.rows.push_back({"rows in " + name, std::to_string(rows)});
  }
  options.print(table);
  return 0;
}

}  // namespace dkdm::cli
