// What the commands that plan or run experiments hold together.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/context.hpp"
#include "cli/options.hpp"
#include "config/experiment.hpp"
#include "results/store/store.hpp"
#include "run/plan.hpp"
#include "run/run_host.hpp"
#include "run/runner.hpp"
#include "run/teacher_files.hpp"

namespace dkdm::cli {

// Adds --device and --fast; `take_device` after parsing.
void add_device(Options& options);
void take_device(const Options& options, Context& context);

class Session {
 public:
  // `tflops`: the rate that plans are estimated at; 0 = measured on this machine.
  explicit Session(Context& context, double tflops = 0);

  run::RunHost& host() { return host_; }
  // Networks that the host loads from now on compute where the command says.
  void choose_device() { host_.set_device(context_.device()); }
  // What plans and stages share; a dataset is opened once for all that ask this session.
  stages::StageContext stage_context();
  record::ArtifactStore& artifacts() { return artifacts_; }
  // The database, opened for writing at the first call.
  results::Store& store();
  std::vector<record::PluginRecord> plugin_records() const;

  struct Planned {
    config::Experiment experiment;
    stages::StageContext context;
    run::Plan plan;
  };
  // What stages cost is only measured for somebody who is to wait for them. again: this command has
  // made the plan before, and has said what there is to say about it.
  // listed: measured, for somebody who is to see what it takes: memory and disk as well, and what
  // is absent as the plan's needs instead of an error.
  // sizes: listed without times, and of what this machine could not hold as well.
  enum class Estimate { measured, again, none, listed, sizes };
  // Reads, checks and plans one experiment file.
  Planned plan(const std::filesystem::path& file, const std::vector<std::string>& overrides,
               const run::Selection& selection, Estimate estimate = Estimate::measured);
  // Under each configuration that `overrides` ask for (sweep.hpp); a cell that several of them
  // share is in the first alone.
  std::vector<Planned> plan_all(const std::filesystem::path& file,
                                const std::vector<std::string>& overrides,
                                const run::Selection& selection,
                                Estimate estimate = Estimate::measured);

 private:
  // What is on record of teachers with these weights. read_only: for a command that records
  // nothing.
  std::vector<run::EarlierUse> earlier_uses(const std::string& sha256, bool read_only);

  Context& context_;
  record::ArtifactStore artifacts_;
  run::RunHost host_;
  stages::OpenDataset datasets_;
  run::CostModel cost_;
  std::unique_ptr<results::Store> store_;
};

// "1 run", "3 stages".
std::string counted(std::size_t count, const std::string& noun);

// The configurations of one experiment file.
using PlannedFile = std::vector<Session::Planned>;

// The cells that all of them ask for.
std::vector<record::RunRecord> asked_cells(const PlannedFile& planned);

// Says before anything starts which stages will run and how long that takes, and warns of those
// that need more memory than their device has.
void announce(const PlannedFile& planned, const record::ArtifactStore& artifacts);

using RowFiles = std::vector<std::pair<std::string, std::filesystem::path>>;  // row, file

// What the plan's rows left: sample sets that were to be kept, and grids, copied to names that a
// person can find: grids/<experiment>/<row>.png, with a suffix for seeds other than the file's
// first, and for configurations where `several` of them are planned.
RowFiles row_files(const Session::Planned& planned, const record::ArtifactStore& artifacts,
                   bool several);

// The table of exactly the cells that were asked for, the files of its rows, its page and the
// database, to stdout.
void print_results(Context& context, const std::string& experiment,
                   const std::vector<record::RunRecord>& asked,
                   const record::ArtifactStore& artifacts, const RowFiles& files);

// Reads and checks an experiment file after loading the plugins that it names.
config::Experiment read_experiment(const std::filesystem::path& file,
                                   const std::vector<std::string>& overrides, Context& context);

// --rows, --seeds, --set: which cells of an experiment.
void add_cell_selection(Options& options);
// And --shard: which of their runs are made here.
void add_selection(Options& options);
// The parts of "a,b,c" that are not empty.
std::vector<std::string> split(const std::string& text, char separator);
run::Selection selection_of(const Options& options);
std::vector<std::string> overrides_of(const Options& options);

// Experiment files named on the command line: a path, or a name below the installation's
// experiments
// ("desk/table2"). Throws ConfigError that lists what there is.
std::vector<std::filesystem::path> experiment_files(const Options& options, Context& context);
// The file that one such word names; nothing where there is none.
std::optional<std::filesystem::path> experiment_file(const std::string& word,
                                                     const Context& context);
// "desk/table2" and the others, sorted; and of such names the nearest to a wrong word, "" where
// none is near. A folder that was left out does not count.
std::vector<std::string> shipped_experiments(const Context& context);
std::string nearest_experiment(const std::string& word, const std::vector<std::string>& names);

// A trained model named on the command line: a folder with model.json, or the number of a recorded
// run. Where the run had plugins that this program has not, the registry's errors say from where.
std::filesystem::path model_folder(const std::string& word, Context& context);

// Runs every experiment of `files` in turn, each run in a process of its own where it asks for
// that; prints each one's table and paths to stdout.
int run_experiments(Context& context, const std::vector<std::filesystem::path>& files,
                    const Options& options, const run::RunOptions& run_options);

}  // namespace dkdm::cli
