#include "cli/child.hpp"

#include <fcntl.h>
#include <link.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <unwind.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <system_error>

#include "cli/signals.hpp"
#include "dkdm/error.hpp"
#include "plugin/trial.hpp"

namespace dkdm::cli {
namespace {

namespace fs = std::filesystem;

constexpr char kDiedIn = '\x01';  // opens the line that a crash handler writes
constexpr std::array kDeadly{SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};

// Where a plugin's code lies. Filled before anything can crash: a signal handler may not allocate.
struct Module {
  std::uintptr_t begin, end;
  std::string line;  // kDiedIn, the file, a line's end
};
std::vector<Module> modules;
int crash_pipe = -1;

void find_modules(const std::vector<fs::path>& files) {
  dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* given) {
        for (const fs::path& file : *static_cast<const std::vector<fs::path>*>(given)) {
          if (fs::absolute(file) != info->dlpi_name) continue;
          for (int i = 0; i < info->dlpi_phnum; ++i) {
            const auto& segment = info->dlpi_phdr[i];
            if (segment.p_type != PT_LOAD) continue;
            const std::uintptr_t begin = info->dlpi_addr + segment.p_vaddr;
            modules.push_back({begin, begin + segment.p_memsz, kDiedIn + file.string() + '\n'});
          }
        }
        return 0;
      },
      const_cast<std::vector<fs::path>*>(&files));
}

_Unwind_Reason_Code look_at_frame(_Unwind_Context* context, void* found) {
  const std::uintptr_t address = _Unwind_GetIP(context);
  for (const Module& module : modules) {
    if (address < module.begin || address >= module.end) continue;
    *static_cast<const Module**>(found) = &module;
    return _URC_END_OF_STACK;
  }
  return _URC_NO_REASON;
}

// Says whose code the innermost plugin frame is, then dies of the signal as it would have.
void on_crash(int signal) {
  const Module* module = nullptr;
  _Unwind_Backtrace(look_at_frame, &module);
  if (module) {
    [[maybe_unused]] const auto written =
        write(crash_pipe, module->line.data(), module->line.size());
  }
  raise(signal);  // SA_RESETHAND put the default back
}

void handle_crashes(int pipe, const std::vector<fs::path>& plugins) {
  crash_pipe = pipe;
  find_modules(plugins);
  // A stack of its own: the other one may be what overflowed.
  static std::vector<char> stack(std::size_t{256} * 1024);
  stack_t alternate{};
  alternate.ss_sp = stack.data();
  alternate.ss_size = stack.size();
  sigaltstack(&alternate, nullptr);
  struct sigaction action {};
  action.sa_handler = on_crash;
  action.sa_flags = SA_ONSTACK | SA_RESETHAND | SA_NODEFER;
  sigemptyset(&action.sa_mask);
  for (const int signal : kDeadly) sigaction(signal, &action, nullptr);
}

// How a parent tells its child to stop. Installed before the fork: the child must never be without it.
void hear_stop_signal() {
  struct sigaction action {};
  sigemptyset(&action.sa_mask);
  action.sa_handler = [](int) { stop_requested = true; };
  action.sa_flags = SA_RESTART;
  sigaction(SIGUSR1, &action, nullptr);
}

// Only this process's parent decides when to stop: a terminal or a scheduler signals both, and two
// signals would mean "at once".
void listen_to_parent_alone() {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  signal(SIGINT, SIG_IGN);
  signal(SIGTERM, SIG_IGN);
}

void write_line(int pipe, std::string line) {
  for (char& c : line)
    if (c == '\n') c = ' ';
  line += '\n';
  for (std::size_t at = 0; at < line.size();) {
    const auto written = write(pipe, line.data() + at, line.size() - at);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return;  // the parent is gone, and this process with it in a moment
    at += static_cast<std::size_t>(written);
  }
}

int guarded(const std::function<int(const Say&)>& work, const Say& say) {
  const auto complain = [](const std::string& message, ExitCode code) {
    std::cout.flush();
    std::cerr << "dkdm: " << message << '\n';
    return static_cast<int>(code);
  };
  try {
    return work(say);
  } catch (const Error& error) {
    // The parent says itself that it was interrupted.
    if (error.exit_code() == ExitCode::interrupted) return static_cast<int>(error.exit_code());
    return complain(error.what(), error.exit_code());
  } catch (const std::exception& error) {
    return complain(error.what(), ExitCode::run_failed);
  }
}

// Passes the child's lines on until it closes the pipe.
class Reader {
 public:
  Reader(int pipe, pid_t child, const std::function<void(const std::string&)>& heard)
      : pipe_(pipe), child_(child), heard_(heard) {}

  fs::path module() const { return module_; }

  void read_all() {
    std::array<char, 4096> buffer{};
    while (true) {
      if (stop_requested && !told_) {
        kill(child_, SIGUSR1);
        told_ = true;
      }
      pollfd waiting{pipe_, POLLIN, 0};
      constexpr int kLookAgain_ms = 200;  // a signal may come just before poll
      if (poll(&waiting, 1, kLookAgain_ms) <= 0) continue;
      const auto count = read(pipe_, buffer.data(), buffer.size());
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) return;
      text_.append(buffer.data(), static_cast<std::size_t>(count));
      pass_lines();
    }
  }

 private:
  void pass_lines() {
    std::size_t start = 0;
    for (auto end = text_.find('\n'); end != std::string::npos; end = text_.find('\n', start)) {
      const std::string line = text_.substr(start, end - start);
      start = end + 1;
      if (line.starts_with(kDiedIn)) module_ = line.substr(1);
      else heard_(line);
    }
    text_.erase(0, start);
  }

  int pipe_;
  pid_t child_;
  const std::function<void(const std::string&)>& heard_;
  std::string text_;
  fs::path module_;
  bool told_ = false;
};

}  // namespace

std::string crash_text(const ChildEnd& end) {
  if (!end.crashed()) return "it ended its process (exit code " + std::to_string(end.exit_code) + ")";
  return plugin::signal_text(end.signal);
}

ChildEnd in_child(const std::function<int(const Say&)>& work,
                  const std::function<void(const std::string&)>& heard,
                  const std::vector<fs::path>& plugins) {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0)
    throw std::system_error(errno, std::generic_category(), "cannot make a pipe");
  hear_stop_signal();
  // Or the child writes what this process has not written yet once more.
  std::cout.flush();
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child < 0) throw std::system_error(errno, std::generic_category(), "cannot start a process");
  if (child == 0) {
    close(ends[0]);
    listen_to_parent_alone();
    handle_crashes(ends[1], plugins);
    const int code = guarded(work, [&](const std::string& line) { write_line(ends[1], line); });
    std::cout.flush();
    std::fflush(nullptr);
    _exit(code);  // what the parent made is the parent's to take down
  }
  close(ends[1]);
  Reader reader(ends[0], child, heard);
  reader.read_all();
  close(ends[0]);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFSIGNALED(status)) return {0, WTERMSIG(status), reader.module()};
  return {WEXITSTATUS(status), 0, {}};
}

}  // namespace dkdm::cli
