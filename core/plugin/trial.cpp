// Opening modules on trial (plugin/trial.hpp).
#include "plugin/trial.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <system_error>
#include <thread>

#include "error_text.hpp"
#include "plugin/host_state.hpp"
#include "plugin/module.hpp"

namespace dkdm::plugin {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTimeout = "DKDM_PLUGIN_TIMEOUT";

// How far the child is; in memory that both processes see.
struct Progress {
  std::atomic<std::size_t> file;
  std::atomic<bool> opened;
};
static_assert(std::atomic<std::size_t>::is_always_lock_free);

class SharedProgress {
 public:
  SharedProgress()
      : memory_(mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                     -1, 0)) {
    if (memory_ == MAP_FAILED)
      throw std::system_error(errno, std::generic_category(), "cannot share memory with a process");
    new (memory_) Progress{};
  }
  ~SharedProgress() { munmap(memory_, sizeof(Progress)); }
  SharedProgress(const SharedProgress&) = delete;
  SharedProgress& operator=(const SharedProgress&) = delete;
  Progress* operator->() const { return static_cast<Progress*>(memory_); }

 private:
  void* memory_;
};

// A file in memory that the child writes and this process reads.
class MemoryFile {
 public:
  explicit MemoryFile(const char* name) : file_(memfd_create(name, MFD_CLOEXEC)) {
    if (file_ < 0)
      throw std::system_error(errno, std::generic_category(), "cannot make a file in memory");
  }
  ~MemoryFile() { close(file_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  int descriptor() const { return file_; }

  std::string text(std::size_t most) const {
    std::string text(most, '\0');
    const auto count = pread(file_, text.data(), most, 0);
    text.resize(static_cast<std::size_t>(count > 0 ? count : 0));
    return text;
  }

 private:
  int file_;
};

constexpr rlim_t kMostWritten = 1 << 20;  // bytes of any file

// What would reach out of the child: a terminal, core files, floods of output, the parent's process
// group.
void settle_child(const MemoryFile& transcript, pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(0);
  setpgid(0, 0);
  const int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
  dup2(nothing, STDIN_FILENO);
  dup2(transcript.descriptor(), STDOUT_FILENO);
  dup2(transcript.descriptor(), STDERR_FILENO);
  const rlimit no_dump{0, 0}, little{kMostWritten, kMostWritten};
  setrlimit(RLIMIT_CORE, &no_dump);
  setrlimit(RLIMIT_FSIZE, &little);
  signal(SIGXFSZ, SIG_IGN);
  for (const int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGINT, SIGTERM})
    ::signal(signal, SIG_DFL);
}

// "number \t name \t refusal \n"
void report(const MemoryFile& verdicts, std::size_t number, const std::string& name,
            const std::string& refusal) {
  const std::string line =
      std::to_string(number) + '\t' + one_line(name) + '\t' + one_line(refusal) + '\n';
  [[maybe_unused]] const auto written = write(verdicts.descriptor(), line.data(), line.size());
}

[[noreturn]] void open_all(const std::vector<fs::path>& files, const SharedProgress& progress,
                           const MemoryFile& verdicts) {
  const ProcessState
      ours;  // or a module's working folder would be where the next ones' paths begin
  for (; progress->file < files.size(); ++progress->file) {
    ours.restore();
    progress->opened = false;
    try {
      const fs::path& file = files[progress->file];
      const DkdmPluginTable& table = open_module(file);
      progress->opened = true;
      declared_params(table, file);
      report(verdicts, progress->file, table.name, "");
    } catch (const std::exception& error) {
      report(verdicts, progress->file, "", error_text(error));
    }
  }
  _exit(0);
}

struct End {
  enum class How { ended, stopped, timed_out } how;
  int status;
};

// Waits for the child, which may take `seconds` for each file.
End wait_for(pid_t child, const SharedProgress& progress, double seconds) {
  using Clock = std::chrono::steady_clock;
  auto begun = Clock::now();
  std::size_t at = progress->file;
  while (true) {
    int status = 0;
    const pid_t changed = waitpid(child, &status, WNOHANG | WUNTRACED);
    if (changed < 0 && errno != EINTR) return {End::How::ended, 0};
    if (changed > 0 && WIFSTOPPED(status)) return {End::How::stopped, status};
    if (changed > 0) return {End::How::ended, status};
    if (progress->file != at) {
      at = progress->file;
      begun = Clock::now();
    }
    if (std::chrono::duration<double>(Clock::now() - begun).count() > seconds)
      return {End::How::timed_out, 0};
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

// Ends the child and what it may have started.
void end_all(pid_t child, bool reaped) {
  kill(-child, SIGKILL);
  if (reaped) return;
  kill(child, SIGKILL);
  while (waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
}

std::string shown_seconds(double seconds) {
  char text[32];
  std::snprintf(text, sizeof text, "%g s", seconds);
  return text;
}

std::string ending_text(const End& end, bool opened, double seconds) {
  const std::string when = opened ? "when asked for its parameters" : "when opened";
  if (end.how == End::How::timed_out)
    return "takes longer than " + shown_seconds(seconds) + " " + when + " (" + kTimeout +
           " sets the limit)";
  if (end.how == End::How::stopped)
    return "stops its process " + when + ": " + signal_text(WSTOPSIG(end.status));
  return "ends its process " + when + ": " +
         (WIFSIGNALED(end.status) ? signal_text(WTERMSIG(end.status))
                                  : "exit code " + std::to_string(WEXITSTATUS(end.status)));
}

void take_in(const MemoryFile& verdicts, const std::vector<fs::path>& files,
             std::map<fs::path, Probe>& probes) {
  std::istringstream lines(verdicts.text(kMostWritten));
  for (std::string number, name, refusal; std::getline(lines, number, '\t') &&
                                          std::getline(lines, name, '\t') &&
                                          std::getline(lines, refusal);) {
    const auto index = std::strtoull(number.c_str(), nullptr, 10);
    if (index < files.size()) probes[files[index]] = {refusal, name};
  }
}

}  // namespace

std::string signal_text(int signal) {
  std::string name = strsignal(signal);
  if (name.size() > 1 && name[0] >= 'A' && name[0] <= 'Z' && name[1] >= 'a')
    name[0] = static_cast<char>(name[0] - 'A' + 'a');
  // "stopped (signal)" of the C library.
  if (const auto bracket = name.find(" ("); bracket != std::string::npos) name.resize(bracket);
  name += " (signal " + std::to_string(signal) + ")";
  if (signal == SIGKILL) name += ", most likely because memory ran out";
  return name;
}

double probe_seconds() {
  constexpr double kUsual = 30;
  const char* text = std::getenv(kTimeout);
  if (!text || !*text) return kUsual;
  char* end = nullptr;
  const double seconds = std::strtod(text, &end);
  if (*end != '\0' || !std::isfinite(seconds) || seconds <= 0)
    throw ConfigError(kTimeout,
                      std::string("is \"") + text + "\", expected a number of seconds above 0");
  return seconds;
}

std::map<fs::path, Probe> probe_modules(const std::vector<fs::path>& files) {
  std::map<fs::path, Probe> probes;
  if (files.empty()) return probes;
  const double seconds = probe_seconds();
  const MemoryFile verdicts("dkdm-verdicts");
  for (const SharedProgress progress; progress->file < files.size(); ++progress->file) {
    const MemoryFile transcript("dkdm-trial");
    const pid_t parent = getpid(), child = fork();
    if (child < 0)
      throw std::system_error(errno, std::generic_category(), "cannot start a process");
    if (child == 0) {
      settle_child(transcript, parent);
      open_all(files, progress, verdicts);
    }
    const End end = wait_for(child, progress, seconds);
    end_all(child, end.how == End::How::ended);
    if (progress->file == files.size()) break;
    const fs::path& file = files[progress->file];
    std::string text = ending_text(end, progress->opened, seconds);
    if (const auto said = one_line(transcript.text(300)); !said.empty())
      text += ", saying: " + said;
    const PluginError refusal(file.string(), "open",
                              text +
                                  "; correct what it does before it is used: its static objects, "
                                  "its params()");
    probes[file] = {refusal.what(), ""};
  }
  take_in(verdicts, files, probes);
  for (const fs::path& file : files) {
    if (probes.contains(file)) continue;  // else it closed what it could have answered on
    const PluginError refusal(file.string(), "open", "gave no answer; rebuild or remove the file");
    probes[file] = {refusal.what(), ""};
  }
  return probes;
}

}  // namespace dkdm::plugin
