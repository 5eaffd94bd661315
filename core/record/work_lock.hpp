// One process at a time makes a key.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "dkdm/error.hpp"

namespace dkdm::record {

// "process 4711 on desk, since 28 Nov 14:02"
using Waiting = std::function<void(const std::string& holder)>;

// Holds an exclusive lock on `file` for its lifetime, and says in the file who holds it. While
// another process has it, `waiting` is called twice a second; it may throw. Throws StoreError, one
// line with the file system and the remedy, where locks are refused.
class DKDM_API WorkLock {
 public:
  WorkLock(const std::filesystem::path& file, const Waiting& waiting);
  ~WorkLock();
  WorkLock(const WorkLock&) = delete;
  WorkLock& operator=(const WorkLock&) = delete;

 private:
  void sign() const;
  std::string holder() const;

  int descriptor_ = -1;
};

}  // namespace dkdm::record
