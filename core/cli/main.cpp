// The program: finds the command, and turns whatever it throws into one line and an exit code.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>

#include "cli/commands.hpp"
#include "cli/signals.hpp"
#include "cli/supervise.hpp"
#include "dkdm/error.hpp"
#include "dkdm/nearest.hpp"
#include "dkdm/params.hpp"
#include "error_text.hpp"
#include "io/plain_text.hpp"
#include "log/log.hpp"

namespace dkdm::cli {
namespace {

void print_help(std::ostream& out) {
  out << "dkdm " DKDM_VERSION
         ": data-free knowledge distillation of diffusion models, benchmarked\n\n"
         "usage: dkdm COMMAND [arguments]      dkdm COMMAND --help\n\n";
  for (const Command& command : commands()) {
    out << "  " << command.name << std::string(13 - std::string(command.name).size(), ' ')
        << command.summary << '\n';
  }
  out << "  build        build only (./dkdm build)\n"
         "  test         build and run tests: unit, conformance, robustness, e2e (./dkdm test)\n\n"
         "environment: DKDM_HOME (data, artifacts, database; default ./.dkdm), DKDM_PLUGIN_PATH,\n"
         "             DKDM_INCEPTION_WEIGHTS (file of FID's Inception; else below DKDM_HOME/weights),\n"
         "             DKDM_DEVICE (what networks compute on: auto, cpu, cuda, cuda:N),\n"
         "             DKDM_EXPERIMENTS, DKDM_LOG (trace, debug, info, warn, error, off),\n"
         "             DKDM_PLUGIN_TIMEOUT (seconds that a plugin may take to load; 30),\n"
         "             COLUMNS (width of text tables; default: the terminal's, no limit in a pipe),\n"
         "             NO_COLOR\n"
         "exit codes:  0 done, 1 a run failed, 2 usage or configuration, 3 missing data or weights,\n"
         "             130 interrupted (rerun the same command to resume)\n";
}

const Command& find_command(const std::string& name) {
  std::vector<std::string> names;
  for (const Command& command : commands()) {
    if (name == command.name) return command;
    names.emplace_back(command.name);
  }
  const std::string near = nearest_name(name, names);
  throw ConfigError("no command '" + name + "'" +
                    (near.empty() ? "; dkdm --help lists them" : "; did you mean " + near + "?"));
}

// Worker threads that wait sleep sooner than by default, which a machine that is shared with other
// work rewards; much sooner slows a small network's step. Their library reads this once, when it is
// loaded: so the program starts again with it. Where that fails, it goes on as it is.
void let_waiting_threads_sleep(char** argv) {
  if (std::getenv("GOMP_SPINCOUNT") || std::getenv("OMP_WAIT_POLICY")) return;
  ::setenv("GOMP_SPINCOUNT", "20000", 1);
  std::error_code error;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (!error) ::execv(program.c_str(), argv);
}

// A message may hold names out of files: none of it moves a terminal's cursor.
int complain(const std::string& message, int code) {
  std::cout.flush();
  std::cerr << "dkdm: " << io::printable(message) << '\n';
  return code;
}

// `code`, unless what the command printed has not arrived.
int finished(int code) {
  errno = 0;
  std::cout.flush();
  std::fflush(stdout);
  if (std::cout && !std::ferror(stdout)) return code;
  // Where an earlier write failed, its reason is gone. A closed stdout has it still.
  if (errno == 0) [[maybe_unused]]
    const auto asked = ::write(STDOUT_FILENO, "", 0);
  const std::string reason = errno != 0 ? std::strerror(errno) : "the disk may be full";
  return complain(
      "standard output: cannot be written: " + reason + "; what was printed is incomplete",
      code != 0 ? code : static_cast<int>(ExitCode::run_failed));
}

int dispatch(std::vector<std::string> args, char** argv) {
  if (args.empty() || args[0] == "--help" || args[0] == "-h" || args == Arguments{"help"}) {
    print_help(std::cout);
    return 0;
  }
  if (args[0] == "--version") {
    std::cout << "dkdm " DKDM_VERSION "\n";
    return 0;
  }
  if (args[0] == "help") args = {args[1], "--help"};
  const Command& command = find_command(args[0]);
  if (command.computes) let_waiting_threads_sleep(argv);
  const auto run = [&] {
    Context context;
    return command.run({args.begin() + 1, args.end()}, context);
  };
  // A debugger is to see the plugin's own process.
  const bool alone = std::find(args.begin(), args.end(), "--in-process") != args.end();
  if (!command.calls_plugins || alone) return run();
  return supervised([&] { return finished(run()); });  // where it was printed
}

// A file that is opened takes the lowest free number: with a closed stdout that would be its
// number, and what is printed would go into the file. What stands there instead cannot be written,
// so that printing still fails.
void keep_standard_streams_apart() {
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(stream, F_GETFD) < 0) [[maybe_unused]]
      const int taken = ::open("/dev/null", O_RDONLY);
  }
}

}  // namespace
}  // namespace dkdm::cli

namespace {

int run_program(int argc, char** argv) {
  using namespace dkdm;
  cli::keep_standard_streams_apart();
  try {
    const char* level = std::getenv("DKDM_LOG");
    log::set_up(level ? level : "info");
    cli::install_signal_handlers();
    return cli::finished(cli::dispatch({argv + 1, argv + argc}, argv));
  } catch (const Error& error) {
    if (error.exit_code() == ExitCode::interrupted)
      return cli::complain("interrupted; rerun the same command to resume",
                           static_cast<int>(error.exit_code()));
    return cli::complain(error_text(error), static_cast<int>(error.exit_code()));
  } catch (...) {
    return cli::complain(current_error_text(), static_cast<int>(ExitCode::run_failed));
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int code = run_program(argc, argv);
  std::cout.flush();
  std::cerr.flush();
  std::fflush(nullptr);
  // Not exit(): modules of plugins stay open, and what they would do at the end (a destructor that
  // waits, an exit handler that ends the process with 0) is not to happen.
  _exit(code);
}
