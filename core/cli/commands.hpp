// The commands, one function each: arguments after the command's name -> exit code.
#pragma once

#include <string>
#include <vector>

#include "cli/context.hpp"

namespace dkdm::cli {

using Arguments = std::vector<std::string>;

struct Command {
  const char* name;
  const char* summary;
  int (*run)(const Arguments& args, Context& context);
  bool computes = false;       // with LibTorch's worker threads
  bool calls_plugins = false;  // beyond asking for their parameters: runs supervised
};

// In the order of the program's help.
const std::vector<Command>& commands();

int cmd_checkpoint(const Arguments& args, Context& context);
int cmd_data(const Arguments& args, Context& context);
int cmd_data_prepare(const Arguments& args, Context& context);  // of cmd_data
int cmd_db(const Arguments& args, Context& context);
int cmd_doctor(const Arguments& args, Context& context);
int cmd_eval(const Arguments& args, Context& context);
int cmd_plan(const Arguments& args, Context& context);
int cmd_plugins(const Arguments& args, Context& context);
int cmd_plugins_check(const Arguments& args, Context& context);  // of cmd_plugins
int cmd_query(const Arguments& args, Context& context);
int cmd_quickstart(const Arguments& args, Context& context);
int cmd_ref(const Arguments& args, Context& context);
int cmd_report(const Arguments& args, Context& context);
int cmd_reproduce(const Arguments& args, Context& context);
int cmd_run(const Arguments& args, Context& context);
int cmd_runs(const Arguments& args, Context& context);
int cmd_sample(const Arguments& args, Context& context);
int cmd_watch(const Arguments& args, Context& context);

}  // namespace dkdm::cli
