// What a plugin can change behind the host's back, read before its code runs and put back after it:
// the result of a row must not depend on which other plugins were there.
#pragma once

#include <locale.h>
#include <signal.h>
#include <sys/types.h>

#include <cstdint>
#include <iosfwd>
#include <locale>
#include <string>
#include <vector>

#include <c10/core/ScalarType.h>

#include "dkdm/error.hpp"

namespace dkdm::plugin {

// What decides the bits of a computation, of this thread and of LibTorch: rounding mode, denormals
// and precision of the processor, default dtype, gradients, autocast, worker threads, determinism,
// precision of matrix products. Some tens of nanoseconds: read around every call. What all threads
// share is the main thread's to put back: another one could see what the main thread's call has set
// for a moment, and keep it.
class DKDM_API NumericState {
 public:
  NumericState();
  // Puts back what has changed since; names it ("rounding mode, default dtype"), "" = nothing.
  std::string restore() const;

 private:
  std::uint64_t floating_point_;
  at::ScalarType dtype_;
  bool gradients_, autocast_, deterministic_, warn_only_, onednn_;
  int threads_, matmul_;
};

// The worker threads of parallel loops compute with the floating-point state of this thread,
// whatever was set where they were started. Starts them where there are none yet.
DKDM_API void settle_workers();

// Sets the umask to what it was at the first look. Whether it was another. A system call.
DKDM_API bool restore_umask();

// What belongs to the process: working folder, umask, locale, handlers and mask of signals,
// environment. Some microseconds: read around what is called seldom.
class DKDM_API ProcessState {
 public:
  ProcessState();
  ~ProcessState();
  ProcessState(const ProcessState&) = delete;
  ProcessState& operator=(const ProcessState&) = delete;
  std::string restore() const;

 private:
  std::string folder_, locale_;
  std::locale cpp_locale_;
  locale_t thread_locale_;
  sigset_t blocked_{};
  std::vector<struct sigaction> handlers_;
  std::vector<std::string> environment_;
};

// Sends what is written to stdout to stderr for its lifetime: stdout is for what a command was
// asked for.
class DKDM_API StdoutAside {
 public:
  StdoutAside();
  ~StdoutAside();
  StdoutAside(const StdoutAside&) = delete;
  StdoutAside& operator=(const StdoutAside&) = delete;

 private:
  int saved_;
  std::streambuf* buffer_;
};

}  // namespace dkdm::plugin
