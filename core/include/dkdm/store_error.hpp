// The error of the results database and the artifact store.
#pragma once

#include "dkdm/error.hpp"

namespace dkdm {

// `sqlite_code` is SQLite's (0 = none).
class DKDM_API StoreError : public Error {
 public:
  explicit StoreError(const std::string& message, int sqlite_code = 0)
      : Error(message, ExitCode::run_failed), sqlite_code_(sqlite_code) {}
  int sqlite_code() const { return sqlite_code_; }

 private:
  int sqlite_code_;
};

}  // namespace dkdm
