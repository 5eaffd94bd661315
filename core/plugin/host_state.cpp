#include "plugin/host_state.hpp"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <c10/core/DefaultDtype.h>
#include <c10/core/GradMode.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cfenv>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <memory>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace dkdm::plugin {
namespace {

// Rounding, denormals, precision and traps of the floating-point units; not the flags that
// operations raise.
std::uint64_t floating_point() {
#if defined(__x86_64__)
  constexpr std::uint32_t kFlags = 0x3f;
  std::uint16_t x87 = 0;
  asm volatile("fnstcw %0" : "=m"(x87));
  return (std::uint64_t{x87} << 32) | (_mm_getcsr() & ~kFlags);
#elif defined(__aarch64__)
  return __builtin_aarch64_get_fpcr64();
#else
  return static_cast<std::uint64_t>(std::fegetround());
#endif
}

void set_floating_point(std::uint64_t state) {
#if defined(__x86_64__)
  const auto x87 = static_cast<std::uint16_t>(state >> 32);
  asm volatile("fldcw %0" : : "m"(x87));
  _mm_setcsr(static_cast<std::uint32_t>(state));
#elif defined(__aarch64__)
  __builtin_aarch64_set_fpcr64(state);
#else
  std::fesetround(static_cast<int>(state));
#endif
}

bool is_main_thread() {
  thread_local const bool kMain = ::gettid() == ::getpid();
  return kMain;
}

// Precision of float32 matrix products, -1 where LibTorch finds its settings to contradict each
// other.
int matmul_precision() {
  try {
    return static_cast<int>(at::globalContext().float32MatmulPrecision());
  } catch (const std::exception&) {
    return -1;
  }
}

class Changes {
 public:
  void add(const char* what) { text_ += (text_.empty() ? "" : ", ") + std::string(what); }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

// The process's umask as it was at the first look. Only setting it tells what it is, and for a
// moment it would be another one for every thread: so the kernel's table is read.
mode_t first_umask() {
  static const mode_t kMask = [] {
    const std::unique_ptr<FILE, int (*)(FILE*)> status(std::fopen("/proc/self/status", "re"),
                                                       &std::fclose);
    std::array<char, 256> line{};
    unsigned mask = 0;
    while (status && std::fgets(line.data(), int(line.size()), status.get()))
      if (std::sscanf(line.data(), "Umask: %o", &mask) == 1) return static_cast<mode_t>(mask);
    const mode_t now = ::umask(022);
    ::umask(now);
    return now;
  }();
  return kMask;
}

std::string working_folder() {
  std::array<char, PATH_MAX> buffer{};
  return ::getcwd(buffer.data(), buffer.size()) ? buffer.data() : "";
}

constexpr int kSignals = 31;  // the classic ones, numbered from 1

bool same(const struct sigaction& a, const struct sigaction& b) {
  return a.sa_handler == b.sa_handler && a.sa_flags == b.sa_flags &&
         std::memcmp(&a.sa_mask, &b.sa_mask, sizeof(unsigned long)) == 0;
}

std::vector<std::string> environment() {
  std::vector<std::string> entries;
  for (char** entry = environ; entry && *entry; ++entry) entries.emplace_back(*entry);
  std::sort(entries.begin(), entries.end());
  return entries;
}

std::string name_of_entry(const std::string& entry) { return entry.substr(0, entry.find('=')); }

void restore_environment(const std::vector<std::string>& wanted) {
  for (const auto& entry : environment())
    if (!std::binary_search(wanted.begin(), wanted.end(), entry))
      ::unsetenv(name_of_entry(entry).c_str());
  for (const auto& entry : wanted) {
    const auto name = name_of_entry(entry);
    if (name.size() < entry.size()) ::setenv(name.c_str(), entry.c_str() + name.size() + 1, 1);
  }
}

}  // namespace

NumericState::NumericState()
    : floating_point_(floating_point()), dtype_(c10::get_default_dtype_as_scalartype()),
      gradients_(c10::GradMode::is_enabled()),
      autocast_(at::autocast::is_autocast_enabled(at::kCPU)),
      deterministic_(at::globalContext().deterministicAlgorithms()),
      warn_only_(at::globalContext().deterministicAlgorithmsWarnOnly()),
      onednn_(at::globalContext().userEnabledMkldnn()), threads_(at::get_num_threads()),
      matmul_(matmul_precision()) {}

std::string NumericState::restore() const {
  const NumericState now;
  Changes changes;
  at::Context& torch = at::globalContext();
  if (now.floating_point_ != floating_point_) {
    changes.add("floating-point mode (rounding, denormals)");
    set_floating_point(floating_point_);
  }
  if (now.gradients_ != gradients_) {
    changes.add("gradient mode");
    c10::GradMode::set_enabled(gradients_);
  }
  if (now.autocast_ != autocast_) {
    changes.add("autocast");
    at::autocast::set_autocast_enabled(at::kCPU, autocast_);
  }
  if (!is_main_thread()) return changes.text();
  if (now.dtype_ != dtype_) {
    changes.add("default dtype");
    c10::set_default_dtype(c10::scalarTypeToTypeMeta(dtype_));
  }
  if (now.deterministic_ != deterministic_ || now.warn_only_ != warn_only_) {
    changes.add("deterministic algorithms");
    torch.setDeterministicAlgorithms(deterministic_, warn_only_);
  }
  if (now.onednn_ != onednn_) {
    changes.add("use of oneDNN");
    torch.setUserEnabledMkldnn(onednn_);
  }
  if (now.threads_ != threads_) {
    changes.add("number of threads");
    at::set_num_threads(threads_);
  }
  if (now.matmul_ != matmul_) {
    changes.add("precision of matrix products");
    constexpr std::array<const char*, 3> kNames{"highest", "high", "medium"};
    torch.setFloat32MatmulPrecision(kNames[std::max(matmul_, 0)]);
  }
  return changes.text();
}

void settle_workers() {
  const std::uint64_t state = floating_point();
#pragma omp parallel
  set_floating_point(state);
}

bool restore_umask() { return ::umask(first_umask()) != first_umask(); }

ProcessState::ProcessState()
    : folder_(working_folder()), locale_(::setlocale(LC_ALL, nullptr)),
      thread_locale_(::uselocale(nullptr)), handlers_(kSignals), environment_(environment()) {
  first_umask();
  ::pthread_sigmask(SIG_SETMASK, nullptr, &blocked_);
  for (int i = 0; i < kSignals; ++i) ::sigaction(i + 1, nullptr, &handlers_[i]);
}

ProcessState::~ProcessState() = default;

std::string ProcessState::restore() const {
  Changes changes;
  if (working_folder() != folder_) {
    changes.add("working folder");
    [[maybe_unused]] const int gone = ::chdir(folder_.c_str());
  }
  if (restore_umask()) changes.add("umask");
  const bool locale = ::uselocale(nullptr) != thread_locale_ || std::locale() != cpp_locale_ ||
                      ::setlocale(LC_ALL, nullptr) != locale_;
  if (locale) {
    changes.add("locale");
    std::locale::global(cpp_locale_);
    ::setlocale(LC_ALL, locale_.c_str());
    ::uselocale(thread_locale_);
  }
  bool handlers = false;
  for (int i = 0; i < kSignals; ++i) {
    struct sigaction now{};
    if (::sigaction(i + 1, nullptr, &now) != 0 || same(now, handlers_[i])) continue;
    handlers = true;
    ::sigaction(i + 1, &handlers_[i], nullptr);
  }
  sigset_t blocked{};
  ::pthread_sigmask(SIG_SETMASK, &blocked_, &blocked);
  if (handlers || std::memcmp(&blocked, &blocked_, sizeof(unsigned long)) != 0)
    changes.add("signal handling");
  if (environment() != environment_) {
    changes.add("environment");
    restore_environment(environment_);
  }
  return changes.text();
}

StdoutAside::StdoutAside() : buffer_(std::cout.rdbuf()) {
  std::cout.flush();
  std::fflush(stdout);
  saved_ = ::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  if (saved_ >= 0) ::dup2(STDERR_FILENO, STDOUT_FILENO);
}

StdoutAside::~StdoutAside() {
  std::cout.flush();
  std::fflush(stdout);
  std::cout.rdbuf(buffer_);
  if (saved_ < 0) return;  // it was closed before, or there was no number left for it
  ::dup2(saved_, STDOUT_FILENO);
  ::close(saved_);
}

}  // namespace dkdm::plugin
