// dkdm report: tables of experiments beside the published values.
#include <algorithm>
#include <iostream>

#include "cli/commands.hpp"
#include "cli/evaluator_splits.hpp"
#include "cli/options.hpp"
#include "cli/session.hpp"
#include "cli/terminal.hpp"
#include "dkdm/io.hpp"
#include "results/report.hpp"
#include "results/report_compare.hpp"
#include "results/report_plots.hpp"
#include "results/runs.hpp"

namespace dkdm::cli {

namespace fs = std::filesystem;
namespace po = boost::program_options;

namespace {

// A word is an experiment file, the name of a shipped one, or a name that runs were recorded by.
void select(const std::string& word, Context& context, std::vector<std::string>& experiments,
            results::ReportOptions& report) {
  const auto file = experiment_file(word, context);
  if (!file) {
    const auto recorded = results::experiment_names(context.recorded_database());
    if (std::find(recorded.begin(), recorded.end(), word) != recorded.end()) {
      experiments.push_back(word);
      return;
    }
    auto names = recorded;
    for (auto& name : shipped_experiments(context)) names.push_back(std::move(name));
    const auto near = nearest_experiment(word, names);
    std::string known;
    for (const auto& name : recorded) known += (known.empty() ? "" : ", ") + name;
    throw ConfigError(word, "neither an experiment file nor an experiment on record" +
                                (!near.empty()    ? "; did you mean " + near + "?"
                                 : known.empty() ? std::string("; none is")
                                                 : "; on record are " + known));
  }
  const auto experiment = read_experiment(*file, {}, context);
  experiments.push_back(experiment.name);
  for (const config::Row& row : experiment.rows) {
    report.expected.push_back(
        {experiment.name, row.id, row.label, experiment.published, row.published});
  }
}

}  // namespace

namespace {

// What a report is about: the experiments that the words name.
struct Subject {
  std::vector<std::string> experiments;
  results::ReportOptions report;
};

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
  const auto comparison = results::compare_reports(file, subject.experiments, subject.report.expected,
                                                   other, tolerance);
  std::cout << comparison.table.render(format, stdout_has_colour(), stdout_columns());
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
  for (const auto& figure : results::write_plots(file, subject.experiments, subject.report.expected,
                                                 fs::absolute(folder))) {
    std::cout << figure.string() << '\n';
  }
  return 0;
}

}  // namespace

int cmd_report(const Arguments& args, Context& context) {
  Options options("report [FILE…] [-o OUT] [--format F] | --against OTHER | --plots DIR",
                  "Prints the tables of experiments (all that are on record, or those of the files\n"
                  "named) with the published values beside and the spread over seeds; or compares\n"
                  "them with another database or an earlier JSON report (exit code 1 when a value\n"
                  "got worse by more than its spread); or draws figures for papers.");
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
      "plots", po::value<std::string>()->value_name("DIR"),
      "write SVG and PDF figures into this folder (needs gnuplot)");
  options.with_words(-1);
  if (!options.parse(args)) return 0;
  if (options.has("against") + options.has("plots") + options.has("output") > 1) {
    options.misuse("report: one of --output, --against and --plots at a time");
  }

  const fs::path file = context.recorded_database();
  Subject subject;
  for (const std::string& word : options.words()) {
    select(word, context, subject.experiments, subject.report);
  }
  subject.report.root = context.home();
  if (options.has("plots")) return print_plots(file, subject, options);
  if (options.has("against")) return print_comparison(file, subject, options);
  const auto experiments = subject.experiments;
  const int code = print_report(file, std::move(subject), options);
  if (experiments.empty()) say_evaluator_splits(context);
  for (const auto& experiment : experiments) say_evaluator_splits(context, experiment);
  return code;
}

}  // namespace dkdm::cli
