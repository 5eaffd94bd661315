// The table of commands.
#include "cli/commands.hpp"

namespace dkdm::cli {

const std::vector<Command>& commands() {
  static const std::vector<Command> table{
      {"quickstart", "train one row of every kind on real images, show the table", cmd_quickstart,
       /*computes=*/true, /*calls_plugins=*/true},
      {"run", "run experiments; rerun the same command to resume", cmd_run,
       /*computes=*/true, /*calls_plugins=*/true},
      {"plan", "show an experiment's stages, what is done and what the rest costs", cmd_plan,
       /*computes=*/true, /*calls_plugins=*/true},
      {"reproduce", "check published values here: teachers first, which are only sampled",
       cmd_reproduce, /*computes=*/true, /*calls_plugins=*/true},
      {"report", "print tables of results beside the published values", cmd_report},
      {"watch", "show what is running: stages, curves, time left", cmd_watch},
      {"runs", "list runs, show, compare, export or remove them", cmd_runs},
      {"query", "run a read-only SQL query on the results", cmd_query},
      {"eval", "FID, sFID, IS, precision and recall of sample sets", cmd_eval,
       /*computes=*/true, /*calls_plugins=*/true},
      {"ref", "reference statistics with their provenance: make, inspect", cmd_ref,
       /*computes=*/true, /*calls_plugins=*/true},
      {"sample", "draw images from a trained model", cmd_sample,
       /*computes=*/true, /*calls_plugins=*/true},
      {"checkpoint", "look into, convert and export weight files", cmd_checkpoint,
       /*computes=*/false, /*calls_plugins=*/true},
      {"plugins", "list plugins, describe or check one, start a new one", cmd_plugins,
       /*computes=*/false, /*calls_plugins=*/true},
      {"data", "list datasets: present, or how to get them; read one whole", cmd_data,
       /*computes=*/true, /*calls_plugins=*/true},
      {"db", "the database: size, schema, check, migrate, merge, gc", cmd_db},
      {"doctor", "check this machine: processor, GPU, LibTorch, plugins, data", cmd_doctor,
       /*computes=*/false, /*calls_plugins=*/true},
  };
  return table;
}

}  // namespace dkdm::cli
