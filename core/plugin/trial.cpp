// Opening modules on trial (plugin/trial.hpp).
#include "plugin/trial.hpp"

#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "plugin/module.hpp"

namespace dkdm::plugin {
namespace {

namespace fs = std::filesystem;

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

// Takes in what the child writes.
class Transcript {
 public:
  Transcript() : file_(memfd_create("dkdm-trial", MFD_CLOEXEC)) {
    if (file_ < 0)
      throw std::system_error(errno, std::generic_category(), "cannot make a file in memory");
  }
  ~Transcript() { close(file_); }
  Transcript(const Transcript&) = delete;
  Transcript& operator=(const Transcript&) = delete;

  void take_over() const {
    dup2(file_, STDOUT_FILENO);
    dup2(file_, STDERR_FILENO);
  }

  // Its lines as one, shortened.
  std::string text() const {
    std::array<char, 300> buffer{};
    const auto count = pread(file_, buffer.data(), buffer.size(), 0);
    std::string text(buffer.data(), static_cast<std::size_t>(count > 0 ? count : 0));
    while (!text.empty() && text.back() == '\n') text.pop_back();
    for (char& c : text)
      if (c == '\n') c = ' ';
    return text;
  }

 private:
  int file_;
};

[[noreturn]] void open_all(const std::vector<fs::path>& files, const SharedProgress& progress,
                           const Transcript& transcript) {
  transcript.take_over();
  const rlimit no_dump{0, 0};
  setrlimit(RLIMIT_CORE, &no_dump);
  for (const int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT}) ::signal(signal, SIG_DFL);
  for (; progress->file < files.size(); ++progress->file) {
    progress->opened = false;
    try {
      const DkdmPluginTable& table = open_module(files[progress->file]);
      progress->opened = true;
      table.params();
    } catch (...) {
      // The parent gets the same exception and says what it says.
    }
  }
  _exit(0);
}

}  // namespace

std::string signal_text(int signal) {
  std::string name = strsignal(signal);
  if (name.size() > 1 && name[0] >= 'A' && name[0] <= 'Z' && name[1] >= 'a')
    name[0] = static_cast<char>(name[0] - 'A' + 'a');
  name += " (signal " + std::to_string(signal) + ")";
  if (signal == SIGKILL) name += ", most likely because memory ran out";
  return name;
}

std::map<fs::path, std::string> deaths_on_opening(const std::vector<fs::path>& files) {
  std::map<fs::path, std::string> deaths;
  if (files.empty()) return deaths;
  for (const SharedProgress progress; progress->file < files.size(); ++progress->file) {
    const Transcript transcript;
    const pid_t child = fork();
    if (child < 0)
      throw std::system_error(errno, std::generic_category(), "cannot start a process");
    if (child == 0) open_all(files, progress, transcript);
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (progress->file == files.size()) break;
    std::string text = progress->opened ? "ends its process when asked for its parameters: "
                                        : "ends its process when opened: ";
    text += WIFSIGNALED(status) ? signal_text(WTERMSIG(status))
                                : "exit code " + std::to_string(WEXITSTATUS(status));
    if (const std::string said = transcript.text(); !said.empty()) text += ", saying: " + said;
    deaths[files[progress->file]] = text;
  }
  return deaths;
}

}  // namespace dkdm::plugin
