#include "cli/supervise.hpp"

#include <signal.h>

#include <cstdio>
#include <fstream>
#include <optional>
#include <string>
#include <system_error>

#include "cli/context.hpp"
#include "cli/worker_report.hpp"
#include "dkdm/error.hpp"

namespace dkdm::cli {
namespace {

const SendLine* told = nullptr;

bool is_traced() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    int tracer = 0;
    if (word == "TracerPid:" && status >> tracer) return tracer != 0;
  }
  return false;
}

// Says how the child ended, and records the run that it was at.
int report_death(const ChildEnd& end, const WorkerReport& report) {
  std::string message = death_text(end);
  if (report.run) {
    message += "; with --isolate the other rows go on";
    try {
      results::Store store(Context().database());
      record_death(store, report, message);
      return static_cast<int>(ExitCode::run_failed);
    } catch (const Error& error) {
      message += " (and the run cannot be recorded as failed: " + std::string(error.what()) + ")";
    }
  }
  std::fprintf(stderr, "dkdm: %s\n", message.c_str());
  return static_cast<int>(ExitCode::run_failed);
}

}  // namespace

int supervised(const std::function<int()>& command) {
  if (is_traced()) return command();
  WorkerReport report;
  const auto work = [&](const SendLine& say) {
    told = &say;
    return command();
  };
  std::optional<ChildEnd> end;
  try {
    end = in_child(work, [&](const std::string& line) { report.take(line); }, {});
  } catch (const std::system_error&) {
    return command();
  }
  if (end->returned) {
    if (end->exit_code == static_cast<int>(ExitCode::interrupted)) throw Interrupted();
    return end->exit_code;
  }
  if (end->signal == SIGPIPE) {  // whoever read its output has enough of it
    ::signal(SIGPIPE, SIG_DFL);
    ::raise(SIGPIPE);
  }
  return report_death(*end, report);
}

const SendLine* supervisor() { return told; }

}  // namespace dkdm::cli
