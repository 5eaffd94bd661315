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
#include <cstdlib>
#include <iostream>
#include <system_error>

#include "cli/signals.hpp"
#include "dkdm/error.hpp"
#include "error_text.hpp"
#include "io/plain_text.hpp"
#include "plugin/call.hpp"
#include "plugin/trial.hpp"

namespace dkdm::cli {
namespace {

namespace fs = std::filesystem;

constexpr char kDiedIn = '\x01';    // opens the line that a crash handler writes
constexpr char kReturned = '\x02';  // the line that says that the work came to its end
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
  struct sigaction action{};
  action.sa_handler = on_crash;
  action.sa_flags = SA_ONSTACK | SA_RESETHAND | SA_NODEFER;
  sigemptyset(&action.sa_mask);
  for (const int signal : kDeadly) sigaction(signal, &action, nullptr);
}

// How a parent tells its child to stop. Installed before the fork: the child must never be without
// it.
void hear_stop_signal() {
  struct sigaction action{};
  sigemptyset(&action.sa_mask);
  action.sa_handler = [](int) { stop_requested = true; };
  action.sa_flags = SA_RESTART;
  sigaction(SIGUSR1, &action, nullptr);
}

// Only this process's parent decides when to stop: a terminal or a scheduler signals both, and two
// signals would mean "at once".
void listen_to_parent_alone(pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(static_cast<int>(ExitCode::interrupted));  // it was quicker
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

int guarded(const std::function<int(const SendLine&)>& work, const SendLine& say) {
  const auto complain = [](const std::string& message, ExitCode code) {
    std::cout.flush();
    std::cerr << "dkdm: " << io::printable(message) << '\n';
    return static_cast<int>(code);
  };
  try {
    return work(say);
  } catch (const Error& error) {
    // The parent says itself that it was interrupted.
    if (error.exit_code() == ExitCode::interrupted) return static_cast<int>(error.exit_code());
    return complain(error_text(error), error.exit_code());
  } catch (...) {
    return complain(current_error_text(), ExitCode::run_failed);
  }
}

// Passes the child's lines on until it has ended.
class Reader {
 public:
  Reader(int pipe, pid_t child, const plugin::CallNotes& notes,
         const std::function<void(const std::string&)>& heard)
      : pipe_(pipe), child_(child), notes_(notes), heard_(heard) {}

  ChildEnd read_all() {
    while (!has_ended()) {
      if (stop_requested && !told_) {
        kill(child_, SIGUSR1);
        told_ = true;
      }
      read_some(wait_ms());
    }
    // What it wrote at last. Not to the pipe's end: a process that it left behind may hold that
    // open.
    while (read_some(0)) {
    }
    if (end_.returned) end_.exit_code = returned_;
    else if (WIFSIGNALED(status_)) end_.signal = WTERMSIG(status_);
    else end_.exit_code = WEXITSTATUS(status_);
    if (const auto call = notes_.current(); call && !end_.returned) {
      end_.plugin = call->plugin;
      end_.stage = call->stage;
    }
    return end_;
  }

 private:
  static constexpr int kLookAgain_ms = 200;  // a signal may come just before poll

  // The pipe closes just before the child has ended.
  int wait_ms() const { return closed_ ? 2 : kLookAgain_ms; }

  bool has_ended() {
    const pid_t changed = waitpid(child_, &status_, WNOHANG | WUNTRACED | WCONTINUED);
    if (changed < 0) return errno != EINTR;
    if (changed == 0) {
      // Counted in looks: where this process is stopped too, as by a scheduler, no time passes.
      if (stopped_ && (stopped_ms_ += wait_ms()) > most_stopped_s_ * 1000) {
        end_.stopped = true;
        kill(child_, SIGKILL);
        stopped_ = false;
      }
      return false;
    }
    if (WIFCONTINUED(status_)) stopped_ = false;
    else if (WIFSTOPPED(status_)) say_stopped();
    else return true;
    return false;
  }

  void say_stopped() {
    stopped_ = true;
    stopped_ms_ = 0;
    const auto call = notes_.current();
    std::fprintf(stderr,
                 "dkdm: %s stopped its process %d (signal %d); kill -CONT %d continues it, in "
                 "%g s it is ended\n",
                 call ? ("plugin " + call->plugin + " (" + call->stage + ")").c_str() : "something",
                 int(child_), WSTOPSIG(status_), int(child_), most_stopped_s_);
  }

  // False when nothing came within `wait_ms`. While nothing can come any more, it only waits.
  bool read_some(int wait_ms) {
    pollfd waiting{closed_ ? -1 : pipe_, POLLIN, 0};
    if (poll(&waiting, 1, wait_ms) <= 0) return false;
    std::array<char, 4096> buffer{};
    const auto count = read(pipe_, buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) return true;
    if (count <= 0) {
      closed_ = true;
      return false;
    }
    text_.append(buffer.data(), static_cast<std::size_t>(count));
    pass_lines();
    return true;
  }

  void pass_lines() {
    std::size_t start = 0;
    for (auto end = text_.find('\n'); end != std::string::npos; end = text_.find('\n', start)) {
      const std::string line = text_.substr(start, end - start);
      start = end + 1;
      if (line.starts_with(kDiedIn)) end_.module = line.substr(1);
      else if (line.starts_with(kReturned)) take_return(line);
      else heard_(line);
    }
    text_.erase(0, start);
  }

  // The exit code as it was meant: where this process was started with SIGCHLD ignored, waitpid has
  // none.
  void take_return(const std::string& line) {
    end_.returned = true;
    returned_ = std::atoi(line.c_str() + 1);
  }

  int pipe_;
  pid_t child_;
  const plugin::CallNotes& notes_;
  const double most_stopped_s_ = plugin::probe_seconds();
  const std::function<void(const std::string&)>& heard_;
  std::string text_;
  ChildEnd end_;
  int status_ = 0, returned_ = 0;
  double stopped_ms_ = 0;
  bool told_ = false, closed_ = false, stopped_ = false;
};

}  // namespace

std::string crash_text(const ChildEnd& end) {
  if (end.stopped) return "it was stopped and not continued";
  if (!end.crashed())
    return "it ended its process (exit code " + std::to_string(end.exit_code) + ")";
  return plugin::signal_text(end.signal);
}

std::string death_text(const ChildEnd& end) {
  std::string text;
  if (!end.plugin.empty()) {
    text = "plugin " + end.plugin;
    if (!end.stage.empty()) text += " (" + end.stage + ")";
    if (!end.module.empty()) text += ", " + end.module.string();
    text += ": ";
  }
  if (end.stopped) text += "was stopped and not continued";
  else if (end.crashed()) text += "crashed: " + crash_text(end);
  else if (end.plugin.empty())
    text = "the process ended before its work was done (exit code " +
           std::to_string(end.exit_code) + ")";
  else
    return text + "ended the process (exit code " + std::to_string(end.exit_code) +
           "), which only dkdm does; a plugin throws an exception instead";
  return end.plugin.empty() ? text : text + "; dkdm plugins check " + end.plugin + " may tell why";
}

ChildEnd in_child(const std::function<int(const SendLine&)>& work,
                  const std::function<void(const std::string&)>& heard,
                  const std::vector<fs::path>& plugins) {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0)
    throw std::system_error(errno, std::generic_category(), "cannot make a pipe");
  plugin::CallNotes notes;
  hear_stop_signal();
  // Or the child writes what this process has not written yet once more.
  std::cout.flush();
  std::fflush(nullptr);
  const pid_t parent = getpid(), child = fork();
  if (child < 0) throw std::system_error(errno, std::generic_category(), "cannot start a process");
  if (child == 0) {
    close(ends[0]);
    listen_to_parent_alone(parent);
    notes.use();
    handle_crashes(ends[1], plugins);
    const int code = guarded(work, [&](const std::string& line) { write_line(ends[1], line); });
    std::cout.flush();
    std::fflush(nullptr);
    write_line(ends[1], kReturned + std::to_string(code));
    _exit(code);  // what the parent made is the parent's to take down
  }
  close(ends[1]);
  const ChildEnd end = Reader(ends[0], child, notes, heard).read_all();
  close(ends[0]);
  return end;
}

}  // namespace dkdm::cli
