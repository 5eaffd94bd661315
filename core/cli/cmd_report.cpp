// dkdm report: tables of experiments beside the published values.
#include <algorithm>
#include <iostream>

#include "cli/commands.hpp"
#include "cli/evaluator_splits.hpp"
#include "cli/options.hpp"
#include "cli/session.hpp"
#include "cli/terminal.hpp"
#include "dkdm/files.hpp"
#include "io/plain_text.hpp"
#include "results/query/runs.hpp"
#include "results/report/report.hpp"
#include "results/report/report_compare.hpp"
#include "results/report/report_plots.hpp"

namespace dkdm::cli {

namespace fs = std::filesystem;
namespace po = boost::program_options;

namespace {

// What a report is about: the experiments that the words name.
struct Subject {
  std::vector<std::string> experiments;
  results::ReportOptions report;
};

// The cells of the file as it is now. Planning needs what its keys are made of: data, a teacher's
// weights.
void select_file(const fs::path& file, const Options& options, Context& context, Subject& subject) {
  Session session(context);
  try {
    const auto planned = session.plan_all(file, overrides_of(options), selection_of(options),
                                          Session::Estimate::none);
    subject.experiments.push_back(planned.front().experiment.name);
    for (auto& cell : asked_cells(planned)) subject.report.choice.asked.push_back(std::move(cell));
  } catch (const DataError& error) {
    throw Error(std::string(error.what()) +
                    "; without the file, as in `dkdm report NAME`, a report "
                    "shows what is on record",
                error.exit_code());
  }
}

// A word is an experiment file, the name of a shipped one, or a name that runs were recorded by.
void select(const std::string& word, const Options& options, Context& context, Subject& subject) {
  if (const auto file = experiment_file(word, context)) {
    select_file(*file, options, context, subject);
    return;
  }
  const auto recorded = results::experiment_names(context.recorded_database());
  if (std::find(recorded.begin(), recorded.end(), word) == recorded.end()) {
    auto names = recorded;
    for (auto& name : shipped_experiments(context)) names.push_back(std::move(name));
    const auto near = nearest_experiment(word, names);
    std::string known;
    for (const auto& name : recorded) known += (known.empty() ? "" : ", ") + name;
    throw ConfigError(word, "neither an experiment file nor an experiment on record" +
                                (!near.empty()   ? "; did you mean " + near + "?"
                                 : known.empty() ? std::string("; none is")
                                                 : "; on record are " + known));
  }
  for (const char* option : {"rows", "seeds"}) {
    if (options.has(option)) {
      options.misuse("report " + word + ": --" + option +
                     " needs the experiment's file, as for dkdm run");
    }
  }
  for (const auto& text : overrides_of(options)) {
    const auto equals = text.find('=');
    if (equals == std::string::npos || equals == 0)
      options.misuse("--set " + text + ": expected KEY=VALUE");
    subject.report.choice.settings.emplace_back(text.substr(0, equals), text.substr(equals + 1));
  }
  subject.experiments.push_back(word);
}

int print_report(const fs::path& file, Subject subject, const Options& options) {
  const bool to_file = options.has("output");
  const fs::path output = to_file ? fs::path(options.get<std::string>("output")) : fs::path();
  if (options.has("format")) {
    subject.report.format = results::parse_report_format(options.get<std::string>("format"));
  } else if (to_file && output.has_extension() && output.extension() != ".txt") {
    subject.report.format = results::parse_report_format(output.extension().string().substr(1));
  }
  subject.report.colour = !to_file && stdout_has_colour();
  subject.report.columns = to_file ? 0 : stdout_columns();
  const std::string text = results::report(file, subject.experiments, subject.report);
  if (to_file) {
    io::write_text(output, text);
    print_written(output);
  } else {
    std::cout << text;
  }
  return 0;
}

int print_comparison(const fs::path& file, const Subject& subject, const Options& options) {
  const results::Tolerance tolerance{options.real("tolerance"), options.real("margin")};
  const auto format = options.has("format")
                          ? results::parse_format(options.get<std::string>("format"))
                          : results::Format::text;
  const fs::path other = options.get<std::string>("against");
  const auto comparison =
      results::compare_reports(file, subject.experiments, subject.report.choice, other, tolerance);
  std::cout << comparison.table.render(format, stdout_has_colour(), stdout_columns());
  for (const auto& note : comparison.notes) std::cerr << "dkdm: " << io::printable(note) << '\n';
  if (comparison.compared == 0) {
    throw ConfigError("--against " + other.string(),
                      "no value compares; the table says what differs");
  }
  std::cerr << "dkdm: " << comparison.compared << " values compare, " << comparison.regressions
            << " got worse by more than allowed (" << options.real("tolerance")
            << " standard deviations over seeds, or " << 100 * options.real("margin")
            << " % where one side has a single seed)\n";
  return static_cast<int>(comparison.regressions > 0 ? ExitCode::run_failed : ExitCode::done);
}

int print_plots(const fs::path& file, const Subject& subject, const Options& options) {
  const fs::path folder = options.get<std::string>("plots");
  for (const auto& figure : results::write_plots(file, subject.experiments, subject.report.choice,
                                                 fs::absolute(folder))) {
    std::cout << figure.string() << '\n';
  }
  return 0;
}

}  // namespace

int cmd_report(const Arguments& args, Context& context) {
  Options options(
      "report [FILE|NAME…] [-o OUT] [--format F] | --against OTHER | --plots DIR",
      "Prints the tables of experiments with the published values beside and the spread\n"
      "over seeds: of a FILE as it is now, with --set, --rows and --seeds as for run; of\n"
      "a NAME, or of all on record, as the last command of each asked for (--set then\n"
      "chooses among the configurations on record). Or compares\n"
      "them with another database or an earlier JSON report (exit code 1 when a value\n"
      "got worse by more than its spread), or draws figures for papers.");
  add_cell_selection(options);
  options.add()("output,o", po::value<std::string>()->value_name("OUT"),
                "write to this file; its ending says the format (.md .csv .json .tex .html)")(
      "format", po::value<std::string>()->value_name("F"),
      "text (default), markdown, csv, json, latex or html")(
      "against", po::value<std::string>()->value_name("OTHER"),
      "compare with this database or JSON report");
  constexpr double kMost = 1e6;
  options
      .add_real("tolerance", "X", 2, 0, kMost,
                "allowed worsening, in standard deviations over seeds")
      .add_real("margin", "X", 0.05, 0, kMost,
                "allowed worsening as a share of the value, where one side has a single seed");
  options.add()(
      "variant", po::value<std::string>()->value_name("A,B"),
      "these other configurations on record instead, by the beginning of their names; all: "
      "every one")("plots", po::value<std::string>()->value_name("DIR"),
                   "write SVG and PDF figures into this folder (needs gnuplot)")(
      "wide",
      "the experiments side by side in one table, as the paper prints the datasets of its Table 2");
  options.with_words(-1);
  if (!options.parse(args)) return 0;
  if (options.has("against") + options.has("plots") + options.has("output") > 1) {
    options.misuse("report: one of --output, --against and --plots at a time");
  }

  if (options.has("wide") && (options.has("against") || options.has("plots")))
    options.misuse("report: --wide is of a table, not of --against and --plots");

  const fs::path file = context.recorded_database();
  Subject subject;
  for (const std::string& word : options.words()) {
    select(word, options, context, subject);
  }
  if (options.words().empty() &&
      (options.has("set") || options.has("rows") || options.has("seeds")))
    options.misuse("report: --set, --rows and --seeds need an experiment file");
  if (options.has("variant"))
    subject.report.choice.variants = split(options.get<std::string>("variant"), ',');
  subject.report.root = context.home();
  subject.report.wide = options.has("wide");
  if (options.has("plots")) return print_plots(file, subject, options);
  if (options.has("against")) return print_comparison(file, subject, options);
  const auto experiments = subject.experiments;
  const int code = print_report(file, std::move(subject), options);
  if (experiments.empty()) say_evaluator_splits(context);
  for (const auto& experiment : experiments) say_evaluator_splits(context, experiment);
  return code;
}

}  // namespace dkdm::cli
