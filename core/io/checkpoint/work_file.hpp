// A stage's unfinished work: tensors, and facts that say what they are, under a checksum over both.
// A stage goes on from exactly what it left, or not at all: one altered bit would change its result
// under the same key.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "dkdm/io.hpp"

namespace dkdm::io {

using Facts = std::map<std::string, std::string>;

struct DKDM_API Work {
  std::filesystem::path file;
  TensorMap tensors;
  Facts facts;

  // Throw DataError naming file and fact when it is not there or has another type.
  const std::string& fact(const std::string& name) const;
  std::int64_t integer(const std::string& name) const;
  double real(const std::string& name) const;
  // Of the type and shape that it must have, or DataError; a size of -1 is any size.
  const at::Tensor& tensor(const std::string& name, at::ScalarType type,
                           at::IntArrayRef sizes) const;
};

DKDM_API void save_work(const std::filesystem::path& file, const TensorMap& tensors, Facts facts);

// Throws DataError naming the file when it cannot be read to its end or is not what was written.
DKDM_API Work load_work(const std::filesystem::path& file);

// Renames a file that cannot be gone on from to FILE.damaged (over an earlier one), or removes it
// where that fails. Returns the line for the log: `why` and where the file is now.
DKDM_API std::string set_aside(const std::filesystem::path& file, const std::string& why);

}  // namespace dkdm::io
