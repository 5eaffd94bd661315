// Errors that a user, a file or a plugin can cause. Our own bugs are asserts.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#define DKDM_API __attribute__((visibility("default")))

namespace dkdm {

// What the program's exit status says (design: command line).
enum class ExitCode : int { done = 0, run_failed = 1, usage = 2, missing = 3, interrupted = 130 };

// Every error that is meant for a person: one line that names the value and what was expected.
class DKDM_API Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message, ExitCode code = ExitCode::run_failed)
      : std::runtime_error(message), code_(code) {}
  ExitCode exit_code() const { return code_; }

 private:
  ExitCode code_;
};

// A wrong experiment file, override or command line. `where` is "file:line:column", or the option.
class DKDM_API ConfigError : public Error {
 public:
  ConfigError(const std::string& where, const std::string& message)
      : Error(where.empty() ? message : where + ": " + message, ExitCode::usage) {}
  explicit ConfigError(const std::string& message) : ConfigError("", message) {}
};

// A plugin that cannot be loaded or that failed (for want of data: with that exit code). `path` is
// the module's file or the plugin's name, `stage` what was being done ("open", "create", …).
class DKDM_API PluginError : public Error {
 public:
  PluginError(const std::string& path, const std::string& stage, const std::string& message,
              ExitCode code = ExitCode::usage)
      : Error(path + ": " + stage + ": " + message, code) {}
};

// A missing, truncated or malformed data or weight file. `where` is the file with offset or key.
class DKDM_API DataError : public Error {
 public:
  DataError(const std::string& where, const std::string& message)
      : Error(where + ": " + message, ExitCode::missing) {}
};

// The user asked to stop (Ctrl-C, SIGTERM). Everything up to the last checkpoint is kept.
class DKDM_API Interrupted : public Error {
 public:
  Interrupted() : Error("interrupted; rerun the same command to resume", ExitCode::interrupted) {}
};

}  // namespace dkdm
