// dkdm run, dkdm quickstart: make an experiment's table.
#include "cli/commands.hpp"
#include "cli/session.hpp"

namespace dkdm::cli {
namespace {

void add_run_options(Options& options) {
  add_selection(options);
  options.add()("force", "run again what is done already; earlier results are kept")(
      "fail-fast", "stop at the first failed run")(
      "save-samples", "keep every row's images as samples.npz, which ADM's evaluator reads; they go "
                      "straight into ours otherwise ([sample] save = true)")(
      "isolate", "every run in a process of its own: one that crashes is recorded as failed, and the "
                 "others go on ([experiment] isolate = true)");
}

run::RunOptions run_options_of(const Options& options) {
  return {.force = options.has("force"), .fail_fast = options.has("fail-fast")};
}

}  // namespace

int cmd_run(const Arguments& args, Context& context) {
  Options options("run FILE… [options]",
                  "Makes what the experiments need and is not there yet, records every run and prints "
                  "their tables. Stop it at any time: the same command goes on.");
  add_run_options(options);
  options.with_words(-1);
  if (!options.parse(args)) return 0;
  return run_experiments(context, experiment_files(options, context), options,
                         run_options_of(options));
}

int cmd_quickstart(const Arguments& args, Context& context) {
  Options options("quickstart [options]",
                  "Trains a diffusion teacher on Fashion-MNIST and one student by every method of the "
                  "paper, samples, evaluates and prints the table: experiments/desk/quickstart.toml.");
  add_run_options(options);
  if (!options.parse(args)) return 0;
  return run_experiments(context, {context.experiments() / "desk" / "quickstart.toml"}, options,
                         run_options_of(options));
}

}  // namespace dkdm::cli
