// The table of commands.
#include "cli/commands.hpp"

namespace dkdm::cli {

const std::vector<Command>& commands() {
  static const std::vector<Command> table{
      {"quickstart", "train one row of every kind on real images, show the table", cmd_quickstart,
       /*computes=*/true},
      {"run", "run experiments; rerun the same command to resume", cmd_run,
       /*computes=*/true},
      {"plan", "show an experiment's stages, what is done and what the rest costs", cmd_plan,
       /*computes=*/true},
      {"report", "print tables of results beside the published values", cmd_report},
      {"watch", "show what is running: stages, curves, time left", cmd_watch},
      {"runs", "list runs, show, compare, export or remove them", cmd_runs},
      {"query", "run a read-only SQL query on the results", cmd_query},
      {"eval", "FID, sFID, IS, precision and recall of sample sets", cmd_eval,
       /*computes=*/true},
      {"ref", "reference statistics with their provenance: make, inspect", cmd_ref,
       /*computes=*/true},
      {"sample", "draw images from a trained model", cmd_sample,
       /*computes=*/true},
      {"checkpoint", "look into, convert and export weight files", cmd_checkpoint},
      {"plugins", "list plugins, describe or check one, start a new one", cmd_plugins},
      {"data", "list datasets: present, or how to get them", cmd_data},
      {"db", "the database: size, schema, check, migrate, merge, gc", cmd_db},
      {"doctor", "check this machine: processor, GPU, LibTorch, plugins, data", cmd_doctor},
  };
  return table;
}

}  // namespace dkdm::cli
