// What a teacher may say about the files that it reads, beside dkdm/teacher.hpp.
#pragma once

#include <filesystem>
#include <vector>

#include "dkdm/error.hpp"

namespace dkdm {

// A Teacher that also derives from this says where its weights lie, so that they are known by their
// SHA-256: it is recorded, held against the teacher's parameter `sha256`, and against earlier runs
// (plugins/teachers/README.md).
class DKDM_API StatesFiles {
 public:
  virtual ~StatesFiles();
  // The files that load() takes weights from: one, or all shards. None = it cannot say.
  virtual std::vector<std::filesystem::path> weight_files() const = 0;
};

}  // namespace dkdm
