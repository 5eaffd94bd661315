// dkdm run, dkdm quickstart: make an experiment's table.
#include "cli/commands.hpp"
#include "cli/dry_run.hpp"
#include "cli/session.hpp"

namespace dkdm::cli {
namespace {

void add_run_options(Options& options) {
  add_selection(options);
  add_device(options);
  options.add()("force", "rerun finished stages; earlier results are kept")(
      "fail-fast", "stop at the first failed run")(
      "save-samples",
      "keep every row's images as samples.npz, as ADM's evaluator reads them; by default "
      "they go straight into the evaluator ([sample] save = true)")(
      "isolate",
      "run each row in its own process: one that crashes is recorded as failed, and the "
      "others continue ([experiment] isolate = true)");
}

run::RunOptions run_options_of(const Options& options) {
  return {.force = options.has("force"), .fail_fast = options.has("fail-fast")};
}

}  // namespace

int cmd_run(const Arguments& args, Context& context) {
  Options options(
      "run FILE… [options]",
      "Runs whatever the experiments still need, records every run and prints their tables.\n"
      "Stop it at any time: rerun the same command to resume. FILE is a TOML file or the name\n"
      "of a shipped experiment, such as desk/quickstart. `dkdm watch` shows how far it is.");
  add_run_options(options);
  options.add()(
      "dry-run",
      "rehearse every stage with its true networks, image sizes and chains and next to no "
      "work, in minutes; data and weights may be absent, and nothing is recorded");
  options.with_words(-1);
  if (!options.parse(args)) return 0;
  take_device(options, context);
  if (options.has("dry-run")) {
    for (const char* other : {"force", "fail-fast", "isolate", "shard"})
      if (options.has(other))
        options.misuse(std::string("--dry-run makes every stage once in one process, without --") +
                       other);
    return dry_run(context, experiment_files(options, context), options);
  }
  return run_experiments(context, experiment_files(options, context), options,
                         run_options_of(options));
}

int cmd_quickstart(const Arguments& args, Context& context) {
  Options options(
      "quickstart [options]",
      "Trains a diffusion teacher on Fashion-MNIST and one student by every method of the "
      "paper, samples, evaluates and prints the table: experiments/desk/quickstart.toml.");
  add_run_options(options);
  if (!options.parse(args)) return 0;
  take_device(options, context);
  return run_experiments(context, {context.experiments() / "desk" / "quickstart.toml"}, options,
                         run_options_of(options));
}

}  // namespace dkdm::cli
