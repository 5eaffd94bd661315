// dkdm plan: the stages of experiments, what is done, why the rest is not, what it costs.
#include "cli/commands.hpp"
#include "cli/evaluator_splits.hpp"
#include "cli/session.hpp"
#include "run/explain.hpp"
#include "run/progress.hpp"

namespace dkdm::cli {

int cmd_plan(const Arguments& args, Context& context) {
  Options options("plan FILE… [options]",
                  "Lists the stages that the experiments need: their keys, what is done, why the rest "
                  "is not, and the estimated cost on this machine.");
  add_selection(options);
  options.with_words(-1).with_format();
  if (!options.parse(args)) return 0;
  Session session(context);
  for (const auto& file : experiment_files(options, context)) {
    const auto planned = session.plan(file, overrides_of(options), selection_of(options));
    const auto missing = run::missing_stages(planned.plan, session.artifacts());
    const std::set<std::size_t> to_make(missing.begin(), missing.end());
    results::Table table;
    table.columns = {{"stage"}, {"key"}, {"state"}, {"estimate", results::Align::right}, {"why"}};
    double seconds = 0;
    for (std::size_t i = 0; i < planned.plan.stages.size(); ++i) {
      const auto& stage = planned.plan.stages[i];
      const bool make = to_make.contains(i);
      const bool there = session.artifacts().find(stage.kind, stage.key).has_value();
      if (make) seconds += stage.estimated_s;
      table.rows.push_back({stage.label, stage.key, make ? "to make" : there ? "done" : stage.streamed ? "not kept" : "not needed",
                            make ? run::duration_text(stage.estimated_s) : "",
                            make ? run::why_missing(stage, session.artifacts()) : ""});
    }
    table.title = planned.experiment.name + ": " + std::to_string(planned.plan.runs.size()) +
                  " runs, " + std::to_string(missing.size()) + " stages to make, about " +
                  run::duration_text(seconds);
    options.print(table);
    say_evaluator_splits(context, planned.experiment.name);
  }
  return 0;
}

}  // namespace dkdm::cli
